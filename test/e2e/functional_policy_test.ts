/** What policy does to a running network: refusals, changes without a restart, lost rights, the audit log. */

import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import { SOCKS_REPLY } from "../../src/wire/socks5.ts";
import { readExactly, readToEnd, writeAll } from "../modes/agent/local_service.ts";
import { eventually } from "../support/eventually.ts";
import { askName, connectNamed, NamedUpstream } from "../support/named_upstream.ts";
import { Network, spiffeId } from "../support/network.ts";

/** Acceptance S0, to the letter. */
const S0 =
  '{"name":"rtmx-sync-access","type":"Dial","identityRoles":["#rtmx-users"],"serviceRoles":["@rtmx-sync"],"semantic":"AnyOf"}';
const SERVICE = "rtmx-sync";
const ALICE = spiffeId("agent", "alice");
const BOB = spiffeId("agent", "bob");

/** Milliseconds in which a lost right has to end live flows. */
const REVOCATION_LIMIT = 1_000;

/** Who carries `#rtmx-users`, and who may offer the service. */
function policy(
  { users, binders = ["@connector/sync"] }: {
    readonly users: readonly string[];
    readonly binders?: readonly string[];
  },
): unknown {
  return {
    identities: users.map((name) => ({ name, roleAttributes: ["rtmx-users"] })),
    services: [{ name: SERVICE }],
    servicePolicies: [
      JSON.parse(S0),
      {
        name: "sync-offers",
        type: "Bind",
        identityRoles: binders,
        serviceRoles: [`@${SERVICE}`],
        semantic: "AnyOf",
      },
    ],
  };
}

Deno.test("S0: the policy file as given admits #rtmx-users, and who lacks it reaches nothing", async (t) => {
  const { servicePolicies, ...rest } = policy({ users: ["agent/alice"] }) as { servicePolicies: unknown[] };
  await using network = await Network.create({
    policy: { ...rest, servicePolicies: servicePolicies.slice(1) },
  });
  await Deno.writeTextFile(`${network.folder}/access.json`, S0);
  using upstream = new NamedUpstream("sync");
  const relay = await network.relay({ config: { policy: ["policy.json", "access.json"] } });
  const relays = [relay];
  const connector = await network.connector({
    name: "sync",
    services: { [SERVICE]: upstream.upstream },
    relays,
  });
  const alice = await network.agent({ name: "alice", forwards: [SERVICE], relays });
  const bob = await network.agent({ name: "bob", forwards: [SERVICE], relays });
  assert.equal(await askName(alice.forward(SERVICE)), "sync");

  await t.step("a forward resets", async () => {
    await assert.rejects(askName(bob.forward(SERVICE)), Deno.errors.ConnectionReset);
  });

  await t.step("SOCKS5 answers 'not allowed'", async () => {
    using client = await Deno.connect({ hostname: "127.0.0.1", port: bob.socks5 });
    const name = utf8(SERVICE);
    await writeAll(client, Uint8Array.of(5, 1, 0, 5, 1, 0, 3, name.length, ...name, 0, 80));
    assert.deepEqual([...(await readExactly(client, 4)).subarray(2)], [5, SOCKS_REPLY.notAllowed]);
  });

  await t.step("the HTTP proxy answers 403, to CONNECT and to a plain request", async () => {
    for (const request of [`CONNECT ${SERVICE}:80`, `GET http://${SERVICE}.ginnel.internal/`]) {
      using client = await Deno.connect({ hostname: "127.0.0.1", port: bob.httpProxy });
      await writeAll(client, utf8(`${request} HTTP/1.1\r\nhost: ${SERVICE}.ginnel.internal\r\n\r\n`));
      assert.match(new TextDecoder().decode(await readToEnd(client)), /^HTTP\/1\.1 403 /);
    }
  });

  await t.step("the backend saw no connection and no byte of it, and every attempt is audited", async () => {
    assert.deepEqual([upstream.accepted, upstream.received], [1, 0]);
    assert.ok(!connector.lines.some((line) => line.includes(BOB)), "the connector heard of bob");
    const denied = await eventually(async () => {
      const lines = (await relay.audit()).filter(({ event }) => event === "deny");
      return lines.length === 4 && lines;
    });
    for (const { who, service, outcome } of denied) {
      assert.deepEqual({ who, service, outcome }, { who: BOB, service: SERVICE, outcome: "403" });
    }
  });
});

Deno.test("policy changes by file and by SIGHUP without a restart; a broken file keeps the old policy", async (t) => {
  await using network = await Network.create({ policy: policy({ users: ["agent/alice"] }) });
  using upstream = new NamedUpstream("sync");
  const relay = await network.relay({ separate: true });
  const relays = [relay];
  await network.connector({ name: "sync", services: { [SERVICE]: upstream.upstream }, relays });
  const alice = await network.agent({ name: "alice", forwards: [SERVICE], relays });
  const bob = await network.agent({ name: "bob", forwards: [SERVICE], relays });
  const running = await connectNamed(alice.forward(SERVICE));
  await assert.rejects(askName(bob.forward(SERVICE)), Deno.errors.ConnectionReset);

  await t.step("a right given in the file works, and running flows stay", async () => {
    await network.writePolicy(policy({ users: ["agent/alice", "agent/bob"] }));
    assert.equal(await eventually(() => askName(bob.forward(SERVICE))), "sync");
  });

  await t.step("a broken file is refused with file, line and column", async () => {
    const text = JSON.stringify(policy({ users: [] }), undefined, 2).replace('"AnyOf"', '"Sometimes"');
    await network.writePolicy(text);
    const [line] = await relay.waitForLine(/.*"policy_refused".*/);
    const { detail } = JSON.parse(line);
    const row = text.split("\n").findIndex((line) => line.includes("Sometimes"));
    const column = text.split("\n")[row]!.indexOf('"Sometimes"');
    assert.ok(detail.includes(`policy.json:${row + 1}:${column + 1}: servicePolicies[0].semantic`), detail);
    assert.equal(await askName(bob.forward(SERVICE)), "sync");
  });

  await t.step("SIGHUP reads it again although nothing changed", async () => {
    await network.writePolicy(policy({ users: ["agent/alice", "agent/bob"] }));
    const loads = () => relay.lines.filter((line) => line.includes('"policy_loaded"')).length;
    await eventually(() => loads() === 3);
    await relay.reload();
    await eventually(() => loads() === 4);
  });

  await writeAll(running.conn, utf8("still open"));
  await eventually(() => upstream.received === "still open".length);
  running.conn.close();
});

for (const carrier of ["quic", "tls"]) {
  for (const right of ["Dial", "Bind"]) {
    Deno.test(`carrier ${carrier}: a lost ${right} right ends live flows within 1 s`, async () => {
      const before = policy({ users: ["agent/alice", "agent/bob"] });
      await using network = await Network.create({ policy: before });
      using upstream = new NamedUpstream("sync");
      const relay = await network.relay();
      const shared = { relays: [relay], config: { carrier } };
      await network.connector({ name: "sync", services: { [SERVICE]: upstream.upstream }, ...shared });
      const alice = await network.agent({ name: "alice", forwards: [SERVICE], ...shared });
      const bob = await network.agent({ name: "bob", forwards: [SERVICE], ...shared });
      const lost = await connectNamed(alice.forward(SERVICE));
      const other = await connectNamed(bob.forward(SERVICE));

      const broken = assert.rejects(lost.conn.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
      const started = performance.now();
      await network.writePolicy(
        right === "Dial" ? policy({ users: ["agent/bob"] }) : policy({ users: ["agent/alice"], binders: [] }),
      );
      await broken;
      const elapsed = performance.now() - started;
      assert.ok(elapsed <= REVOCATION_LIMIT, `it took ${Math.round(elapsed)} ms`);
      await assert.rejects(askName(alice.forward(SERVICE)), Deno.errors.ConnectionReset);
      const kept = right === "Dial" ? 1 : 0;
      await eventually(() => upstream.open === kept);
      await eventually(async () =>
        (await relay.audit()).some(({ who, outcome }) => who === ALICE && outcome === "revoked")
      );

      await network.writePolicy(before);
      assert.equal(await eventually(() => askName(alice.forward(SERVICE))), "sync");
      lost.conn.close();
      other.conn.close();
    });
  }
}

Deno.test("every flow leaves a connect and a close line with its bytes and how it ended", async () => {
  await using network = await Network.create({ policy: policy({ users: ["agent/alice"] }) });
  using upstream = new NamedUpstream("sync");
  const relay = await network.relay();
  await network.connector({ name: "sync", services: { [SERVICE]: upstream.upstream }, relays: [relay] });
  const agent = await network.agent({ forwards: [SERVICE], relays: [relay] });
  const sent = 100_000;
  const { conn } = await connectNamed(agent.forward(SERVICE));
  await writeAll(conn, new Uint8Array(sent));
  await eventually(() => upstream.received === sent);
  conn.close();
  const lines = await eventually(async () => {
    const lines = await relay.audit();
    return lines.length === 2 && lines;
  });
  const shared = {
    who: ALICE,
    service: SERVICE,
    connector: spiffeId("connector", "sync"),
    flow: lines[0]!.flow,
  };
  const [{ time: opened, ...connect }, { time: ended, bytesIn, bytesOut, durationMs, ...close }] = lines as [
    typeof lines[0] & object,
    typeof lines[0] & object,
  ];
  assert.deepEqual(connect, { type: "audit", level: "info", event: "connect", outcome: "open", ...shared });
  assert.deepEqual(close, { type: "audit", level: "info", event: "close", outcome: "closed", ...shared });
  // The relay counts sealed bytes: the payload and a little more.
  assert.ok(bytesIn! >= sent && bytesIn! < sent * 1.05, String(bytesIn));
  assert.ok(bytesOut! >= "sync\n".length && bytesOut! < 1_000, String(bytesOut));
  const apart = Date.parse(ended) - Date.parse(opened);
  assert.ok(Math.abs(durationMs! - apart) < 250, `${durationMs} ms, but the lines are ${apart} ms apart`);
  assert.equal((await Deno.stat(`${network.folder}/relay-1.audit.jsonl`)).mode! & 0o777, 0o600);
});
