/** The agent's dialer for flows of datagrams: what it asks, what it tries, and what ends a flow. */

import assert from "node:assert/strict";
import { FlowRefusedError } from "../../../src/dataplane/errors.ts";
import { dialerGround } from "../../support/dialer_ground.ts";
import { eventually } from "../../support/eventually.ts";

const UDP = { service: "dns", protocol: "udp", port: 53 } as const;
const NEVER = { signal: new AbortController().signal };

Deno.test("a UDP flow is asked for by connect-udp on the QUIC connection; its address stays sealed", async () => {
  using ground = await dialerGround();
  const flow = await ground.dialer.connectDatagrams({ ...UDP, address: "ns.corp.example" }, NEVER);
  assert.deepEqual(ground.seen, [{
    protocol: "connect-udp",
    path: "/.well-known/masque/udp/dns/53/",
    headers: { "ginnel-sealed": "?1", "ginnel-protocol": "udp" },
    isTls: false,
  }]);
  const far = await eventually(() => ground.far[0]);
  assert.equal(far.header.address, "ns.corp.example");
  assert.equal(flow.maxPayload, 1_176);
  const got: string[] = [];
  far.flow.receive((payload) => void far.flow.send(payload, 0, payload.length));
  flow.receive((payload) => void got.push(payload.join()));
  assert.ok(flow.send(Uint8Array.of(1, 2), 0, 2));
  await eventually(() => got.length === 1);
  assert.deepEqual(got, ["1,2"]);
  flow.close();
  assert.equal(await far.flow.closed, undefined);
});

Deno.test("an echo flow has no port, and says so to the connector alone", async () => {
  using ground = await dialerGround();
  const flow = await ground.dialer.connectDatagrams({ service: "dns", protocol: "icmp" }, NEVER);
  assert.equal(ground.seen[0]?.path, "/.well-known/masque/udp/dns/1/");
  assert.equal(ground.seen[0]?.headers["ginnel-protocol"], "icmp");
  const { header } = await eventually(() => ground.far[0]);
  assert.deepEqual([header.protocol, header.port], ["icmp", undefined]);
  flow.close();
});

Deno.test("over TLS, or where the relay can pass no datagrams on, everything crosses on the stream", async () => {
  for (
    const options of [{ isTlsOnly: true }, { datagramSize: null }, { datagramSize: "0" }, {
      datagramSize: "x",
    }]
  ) {
    using ground = await dialerGround(options);
    const flow = await ground.dialer.connectDatagrams(UDP, NEVER);
    assert.equal(ground.seen[0]?.isTls, options.isTlsOnly ?? false);
    assert.equal(ground.seen[0]?.headers["authorization"], options.isTlsOnly ? "Bearer proof" : undefined);
    assert.equal(flow.maxPayload, 0);
    const far = await eventually(() => ground.far[0]);
    const got: string[] = [];
    far.flow.receive((payload) => void got.push(payload.join()));
    assert.ok(flow.send(Uint8Array.of(7), 0, 1));
    await eventually(() => got.length === 1);
    flow.close();
  }
});

Deno.test("a connector that refuses is avoided; when all refuse, the first refusal is told", async () => {
  const refused = new FlowRefusedError("upstream-refused");
  {
    using ground = await dialerGround({ refusals: { one: refused } });
    const flow = await ground.dialer.connectDatagrams(UDP, NEVER);
    assert.equal(ground.seen[1]?.headers["ginnel-avoid"], "one");
    assert.equal(ground.dialer.usage.get("dns")?.lastPath.connector, ground.uri(1));
    flow.close();
  }
  using ground = await dialerGround({ refusals: { one: refused, two: new FlowRefusedError("overloaded") } });
  await assert.rejects(ground.dialer.connectDatagrams(UDP, NEVER), { reason: "upstream-refused" });
  assert.equal(ground.dialer.usage.size, 0);
});

Deno.test("what the view does not allow is not opened", async () => {
  using ground = await dialerGround();
  await ground.grant([ground.uri(1)]);
  // The relay chooses the other connector all the same.
  await assert.rejects(ground.dialer.connectDatagrams(UDP, NEVER), { code: "ERR_FLOW_UNAVAILABLE" });
  await ground.grant([]);
  await assert.rejects(
    ground.dialer.connectDatagrams(UDP, NEVER),
    (error: { failure: { status: number } }) => {
      assert.equal(error.failure.status, 403);
      return true;
    },
  );
  assert.deepEqual(ground.far, []);
});

Deno.test("a flow ends at both ends as soon as a view takes its connector away", async () => {
  using ground = await dialerGround();
  const flow = await ground.dialer.connectDatagrams(UDP, NEVER);
  const far = await eventually(() => ground.far[0]);
  await ground.grant([ground.uri(0)]);
  assert.ok(flow.send(Uint8Array.of(1), 0, 1));
  await ground.grant([ground.uri(1)]);
  assert.equal(flow.send(Uint8Array.of(1), 0, 1), false);
  assert.ok(await flow.closed instanceof Error);
  assert.ok(await far.flow.closed instanceof Error);
});

Deno.test("a flow that carries nothing for its service's time-out ends cleanly", async () => {
  using ground = await dialerGround({ idleTimeout: 1 });
  const flow = await ground.dialer.connectDatagrams(UDP, NEVER);
  const far = await eventually(() => ground.far[0]);
  assert.equal((await flow.closed as { code?: string }).code, "ERR_FLOW_IDLE");
  assert.equal(await far.flow.closed, undefined);
});

Deno.test("use is counted while flows live, and forgotten with the right", async () => {
  using ground = await dialerGround();
  const { dialer } = ground;
  const before = Date.now();
  const flow = await dialer.connectDatagrams(UDP, NEVER);
  const other = await dialer.connectDatagrams(UDP, NEVER);
  const { lastUsed, ...usage } = dialer.usage.get("dns")!;
  const lastPath = { relay: "r1", connector: ground.uri(0), carrier: "quic", direct: false };
  assert.deepEqual(usage, { flows: 2, lastPath });
  assert.ok(lastUsed >= before && lastUsed <= Date.now());
  flow.close();
  await eventually(() => dialer.usage.get("dns")?.flows === 1);
  await ground.grant([]);
  await other.closed;
  assert.equal(dialer.usage.size, 0);
});
