/**
 * `ginnel doctor` and names on a machine where one thing after the other goes wrong: it names that thing, and no other.
 */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import { needsRoot, needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { dig, doctor, untilNamed } from "../support/service_commands.ts";
import { ServiceGround } from "../support/service_ground.ts";

const SYSTEM = { install: "part of every Linux system" };
const NEEDS = [
  ...[needsRoot(), needsTun(), needsTool("dig"), needsTool("nft")],
  ...[needsTool("unshare", SYSTEM), needsTool("mount", SYSTEM)],
];
const host = "agent1";

testNeeding(
  NEEDS,
  "doctor names what is wrong; and without rights in force no name is answered",
  async (t) => {
    await using ground = await ServiceGround.create({ controller: { viewTtl: "1m" } });
    await ground.service({ name: "web" });
    await ground.allow("Dial");
    await ground.identity("agent", "agent-2");
    const agent = await ground.startAgent(host);
    const file = `/etc/netns/${ground.hosts.host(host).namespace}/resolv.conf`;
    await untilNamed(ground, host);
    /** What is amiss, as `fail subject` or `warn subject`, after the exit code. */
    const look = async () => {
      const { code, findings } = await doctor(ground, { host });
      const amiss = findings.filter(({ verdict }) => verdict !== "ok");
      for (const { subject, hint } of amiss) assert.ok(hint, subject);
      return { code, amiss, text: amiss.map(({ verdict, subject }) => `${verdict} ${subject}`).toSorted() };
    };
    const well = await look();
    // What the machine of the test itself lacks is not asked here.
    const usual = new Set(well.text);
    const wrong = (seen: { readonly text: readonly string[] }) =>
      seen.text.filter((line) => !usual.has(line));

    await t.step("nothing", () => {
      assert.equal(well.code, 0, JSON.stringify(well.amiss));
    });

    await t.step("UDP is blocked: the relay is reached by TLS", async () => {
      await ground.run(host, [
        "nft",
        "table inet block { chain out { type filter hook output priority 0; oifname eth0 meta l4proto udp drop; }; }",
      ]);
      const seen = await look();
      assert.equal(seen.code, 0);
      assert.deepEqual(wrong(seen).filter((line) => !line.endsWith(" agent")), ["warn relay relay-1"]);
      const { text, hint } = seen.amiss.find(({ subject }) => subject === "relay relay-1")!;
      assert.match(text, /^QUIC to \S+\/udp: no answer/);
      assert.match(hint!, /UDP 4433 is let through/);
      await ground.run(host, ["nft", "delete", "table", "inet", "block"]);
    });

    await t.step("the relay, and the controller that is part of it, are gone", async () => {
      await ground.controller.kill();
      const seen = await look();
      assert.equal(seen.code, 1);
      const lines = wrong(seen).filter((line) => !line.endsWith(" agent"));
      assert.deepEqual(lines, ["fail relay relay-1", "fail relay relay-1", "warn controller controller-1"]);
      for (const line of seen.text) usual.add(line);
    });

    await t.step("names are taken elsewhere", async () => {
      const ours = await Deno.readTextFile(file);
      const rogue = ground.spawn(host, [
        ...[
          "dnsmasq",
          "--keep-in-foreground",
          "--conf-file=/dev/null",
          "--no-hosts",
          "--no-resolv",
          "--user=root",
        ],
        ...["--bind-interfaces", "--listen-address=127.0.0.9", "--pid-file=", "--address=/#/192.0.2.66"],
      ]);
      // Again and again: the agent takes a file that it did not write for one of another network.
      const stop = new AbortController();
      const hijacking = eventually(async () => {
        await Deno.writeTextFile(file, "nameserver 127.0.0.9\n");
        return stop.signal.aborted;
      }, { timeout: 60_000, interval: 20 });
      const seen = await look();
      stop.abort();
      await hijacking;
      assert.equal(seen.code, 1);
      assert.deepEqual(wrong(seen), ["fail DNS"]);
      assert.match(
        seen.amiss.find(({ subject }) => subject === "DNS")!.text,
        /^web\.ginnel\.internal is 192\.0\.2\.66 here, but 10\.101/,
      );
      await Deno.writeTextFile(file, ours);
      await rogue.stop();
      await eventually(async () => wrong(await look()).length === 0, { timeout: 20_000 });
    });

    await t.step("there is no TUN", async () => {
      const config = { mode: "agent", identity: (await ground.identity("agent", "agent-2")).path };
      await Deno.writeTextFile(`${ground.folder}/agent-2.config.json`, JSON.stringify(config));
      const prefix = ["unshare", "-m", "sh", "-ec", 'mount -t tmpfs none /dev/net; exec "$@"', "sh"];
      const { findings } = await doctor(ground, { host: "agent2", prefix });
      const { text, hint } = findings.find(({ subject }) => subject === "capture")!;
      assert.match(text, /no \/dev\/net\/tun.*; services are at addresses in 127\.0\.0\.0\/8 instead$/);
      assert.match(hint!, /modprobe tun/);
    });

    await t.step("the rights' time is up: no name is answered, not even by others", async () => {
      const ask = (name: string) => dig(ground, { host, name });
      assert.equal((await ask("web.ginnel.internal")).code, "NOERROR");
      await eventually(async () => (await ask("web.ginnel.internal")).code === "SERVFAIL", {
        timeout: 70_000,
        interval: 500,
      });
      assert.equal((await ask("none.ginnel.internal")).code, "SERVFAIL");
    });

    await t.step("the agent is killed", async () => {
      await agent.stop({ signal: "SIGKILL" });
      const seen = await look();
      assert.equal(seen.code, 1);
      assert.ok(wrong(seen).includes("fail DNS"), wrong(seen).join());
      assert.ok(wrong(seen).includes("warn agent"));
    });
  },
);
