/** What a flow tells of itself, and which packets are of one kind. */

import assert from "node:assert/strict";
import { Flow, FLOW_KIND, flowMeta, isEchoReply, metaOf } from "../../../src/core/egress/flow.ts";
import { packet, type PacketSpec, reply } from "../../support/egress.ts";

function flowOf(spec: PacketSpec): Flow {
  const view = packet(spec);
  return new Flow(view, { meta: metaOf(view), ports: view.srcPort << 16 | view.dstPort, now: 5 });
}

Deno.test("a flow tells addresses, protocol and port, also where words have their upper bit set", () => {
  const flow = flowOf({
    from: "203.0.113.9",
    to: "198.51.100.254",
    protocol: "UDP",
    sport: 65_535,
    port: 65_534,
  });
  assert.deepEqual(
    [flow.version, flow.protocol, flow.source, flow.destination, flow.port, flow.opened],
    [4, 17, "203.0.113.9", "198.51.100.254", 65_534, 5],
  );
  const flow6 = flowOf({ from: "fd00:100::ffff:ffff", to: "ffff:ffff:8000::ffff:fffe", port: 443 });
  assert.deepEqual([flow6.version, flow6.source, flow6.destination, flow6.port], [
    6,
    "fd00:100::ffff:ffff",
    "ffff:ffff:8000::ffff:fffe",
    443,
  ]);
});

Deno.test("the identifier of an echo is no port, and the highest protocol number fits", () => {
  const echo = flowOf({ to: "192.0.2.1", protocol: "ICMP", id: 443 });
  assert.deepEqual([echo.port, echo.kind, echo.protocol], [0, FLOW_KIND.ECHO, 1]);
  assert.equal(flowOf({ to: "192.0.2.1", protocol: 255 }).protocol, 255);
});

Deno.test("a flow that nothing has judged is denied", () => {
  assert.equal(flowOf({ to: "192.0.2.1" }).action, "drop");
});

Deno.test("echoes of both directions are of one kind, other ICMP and ICMP of the other version are not", () => {
  const echo = flowMeta(4, FLOW_KIND.ECHO, 1);
  assert.equal(metaOf(packet({ to: "192.0.2.1", protocol: "ICMP" })), echo);
  assert.equal(metaOf(reply({ to: "192.0.2.1", protocol: "ICMP" })), echo);
  for (const icmpType of [3, 5, 11, 13]) {
    assert.equal(
      metaOf(packet({ to: "192.0.2.1", protocol: "ICMP", icmpType })),
      flowMeta(4, FLOW_KIND.PLAIN, 1),
    );
  }
  assert.equal(
    metaOf(packet({ to: "192.0.2.1", protocol: "ICMPV6", icmpType: 8 })) >>> 4 & 15,
    FLOW_KIND.PLAIN,
  );
  assert.equal(
    metaOf(packet({ to: "2001:db8::1", protocol: "ICMP", icmpType: 128 })) >>> 4 & 15,
    FLOW_KIND.PLAIN,
  );
});

Deno.test("isEchoReply() tells replies from requests", () => {
  for (
    const spec of [{ to: "192.0.2.1", protocol: "ICMP" }, { to: "2001:db8::1", protocol: "ICMPV6" }] as const
  ) {
    assert.equal(isEchoReply(packet(spec)), false);
    assert.equal(isEchoReply(reply(spec)), true);
  }
});
