import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { parseIp } from "../../src/base/ip.ts";
import { leasesCommand } from "../../src/cli/leases.ts";
import { LeaseJournal } from "../../src/store/lease_journal.ts";
import { eventually } from "../support/eventually.ts";
import { type DemoFolder, editJson, fileOf, makeDemoFolder, Printed } from "./demo_folder.ts";

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const io = new Printed();
  const code = await leasesCommand(args, io);
  return { code, out: io.out, err: io.err };
}

/** A relay with tunnels whose file holds the leases of `rows`: identity and addresses. */
async function relayWith(...rows: [string, string | null, string | null][]): Promise<DemoFolder> {
  const demo = await makeDemoFolder();
  await editJson(demo.relayConfig, (config) => config.tunnel = { policy: ["egress.yaml"] });
  const { journal } = await openJournal(demo);
  for (const [name, ipv4, ipv6] of rows) {
    journal.record({
      identity: `spiffe://dev/${name}`,
      ipv4: ipv4 === null ? null : parseIp(ipv4)!,
      ipv6: ipv6 === null ? null : parseIp(ipv6)!,
      since: Date.parse("2026-01-02T03:04:05Z"),
      lastSeen: Date.parse("2026-02-03T04:05:06Z"),
    });
  }
  await journal.close();
  return demo;
}

function openJournal(demo: DemoFolder) {
  const options = { logger: SILENT_LOGGER, pollInterval: 5 };
  return LeaseJournal.open(fileOf(demo, "leases.jsonl"), options);
}

Deno.test("leases lists who has what, by address", async () => {
  const demo = await relayWith(["agent/bob", "10.100.0.10", null], ["agent/alice", "10.100.0.9", "fd00::9"]);
  assert.deepEqual(await run("--config", demo.relayConfig), {
    code: 0,
    err: "",
    out: "IDENTITY                  IPV4         IPV6     SINCE              LAST SEEN\n" +
      "spiffe://dev/agent/alice  10.100.0.9   fd00::9  2026-01-02 03:04Z  2026-02-03 04:05Z\n" +
      "spiffe://dev/agent/bob    10.100.0.10  -        2026-01-02 03:04Z  2026-02-03 04:05Z\n",
  });
  const { leases, file } = JSON.parse((await run("--config", demo.relayConfig, "--json")).out);
  assert.equal(file, fileOf(demo, "leases.jsonl"));
  assert.deepEqual(leases[1], {
    identity: "spiffe://dev/agent/bob",
    ipv4: "10.100.0.10",
    ipv6: null,
    since: "2026-01-02T03:04:05.000Z",
    lastSeen: "2026-02-03T04:05:06.000Z",
  });
});

Deno.test("leases says so when there are none, also before the relay's first start", async () => {
  const demo = await relayWith();
  await Deno.remove(fileOf(demo, "leases.jsonl"));
  const { code, out } = await run("--config", demo.relayConfig);
  assert.deepEqual([code, out], [0, `No leases in ${fileOf(demo, "leases.jsonl")}\n`]);
  assert.deepEqual(JSON.parse((await run("--config", demo.relayConfig, "--json")).out).leases, []);
  const nothing = await run("release", "alice", "--config", demo.relayConfig);
  assert.equal(nothing.code, 1);
  await assert.rejects(Deno.stat(fileOf(demo, "leases.jsonl")), Deno.errors.NotFound);
});

Deno.test("leases release takes an identity by its whole ID or its end, and only that one", async () => {
  for (const wanted of ["spiffe://dev/agent/alice", "agent/alice", "alice"]) {
    const demo = await relayWith(["agent/alice", "10.0.0.2", "fd00::2"], ["agent/malice", "10.0.0.3", null]);
    const { code, out, err } = await run("release", wanted, "--config", demo.relayConfig);
    assert.deepEqual(
      [code, out, err],
      [0, "Released 10.0.0.2 and fd00::2 of spiffe://dev/agent/alice\n", ""],
      wanted,
    );
    const left = JSON.parse((await run("--config", demo.relayConfig, "--json")).out).leases;
    assert.deepEqual(left.map(({ identity }: { identity: string }) => identity), [
      "spiffe://dev/agent/malice",
    ]);
    assert.equal((await run("release", wanted, "--config", demo.relayConfig)).code, 1, "it is gone");
  }
});

Deno.test("leases release refuses what is not one identity and changes nothing", async () => {
  const demo = await relayWith(["agent/alice", "10.0.0.2", null], ["user/alice", "10.0.0.3", null]);
  const before = await Deno.readTextFile(fileOf(demo, "leases.jsonl"));
  const rows: [string, RegExp][] = [
    ["alice", /"alice" may be spiffe:\/\/dev\/agent\/alice or spiffe:\/\/dev\/user\/alice: write which one/],
    ["agent/alcie", /"agent\/alcie" has no lease in .*leases\.jsonl \(did you mean agent\/alice\?\)/],
    ["lice", /no lease.*did you mean alice/],
    ["zzz", /"zzz" has no lease in .*leases\.jsonl\n$/],
    ["", /"" has no lease/],
    ["/alice", /no lease/],
  ];
  for (const [wanted, message] of rows) {
    const { code, out, err } = await run("release", wanted, "--config", demo.relayConfig);
    assert.deepEqual([code, out], [1, ""], wanted);
    assert.match(err, message, wanted);
  }
  assert.equal(await Deno.readTextFile(fileOf(demo, "leases.jsonl")), before);
});

Deno.test("leases release reaches a relay that runs", async () => {
  const demo = await relayWith(["agent/alice", "10.0.0.2", null]);
  await using journal = (await openJournal(demo)).journal;
  const heard: string[] = [];
  journal.watch((identity) => void heard.push(identity));
  const { code, out } = await run("release", "alice", "--config", demo.relayConfig, "--json");
  assert.equal(code, 0);
  assert.equal(JSON.parse(out).released.ipv4, "10.0.0.2");
  await eventually(() => heard.length > 0);
  assert.deepEqual(heard, ["spiffe://dev/agent/alice"]);
});

Deno.test("leases tells a wrong command line or config in one line, exit code 2", async () => {
  const demo = await relayWith();
  const plain = await makeDemoFolder();
  const rows: [string[], RegExp][] = [
    [[], /^ginnel leases: Missing --config FILE\./],
    [["release"], /^ginnel leases release: Missing IDENTITY\./],
    [["release", "--config", demo.relayConfig], /^ginnel leases release: Missing IDENTITY\./],
    [["release", "alice"], /^ginnel leases release: Missing --config FILE\./],
    [["release", "a", "b", "--config", demo.relayConfig], /Unexpected argument "b"/],
    [["relaese", "a", "--config", demo.relayConfig], /Unexpected argument "relaese"/],
    [["--config", demo.agentConfig], /mode = "agent": expected relay: only a relay gives leases/],
    [["--config", plain.relayConfig], /tunnel: is missing: this relay serves no IP tunnels/],
    [["--config", "/nowhere.json"], /\/nowhere\.json: no such file/],
  ];
  for (const [args, message] of rows) {
    const { code, out, err } = await run(...args);
    assert.deepEqual([code, out, err.split("\n").length], [2, "", 2], args.join(" ") + err);
    assert.match(err, message, args.join(" "));
  }
});

Deno.test("leases of a relay that follows a controller are the controller's to tell", async () => {
  const demo = await relayWith(["agent/bob", "10.100.0.10", null]);
  await editJson(demo.relayConfig, (config) => {
    delete config.policy;
    delete config.authority;
    config.tunnel = {};
  });
  for (const words of [[], ["release", "bob"]]) {
    const { code, err } = await run(...words, "--config", demo.relayConfig);
    assert.match(err, /takes addresses from its controller: ask that with ginnel api/);
    assert.equal(code, 2);
  }
});
