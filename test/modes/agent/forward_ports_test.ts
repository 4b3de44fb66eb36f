import assert from "node:assert/strict";
import { parseIp } from "../../../src/base/ip.ts";
import type { CataloguedService } from "../../../src/core/service/catalogue.ts";
import { MAX_PORTS, planService, substitutePort } from "../../../src/modes/agent/forward_ports.ts";
import { catalogued } from "./catalogued.ts";

Deno.test("a service's loopback address is its number, below the agent's block", () => {
  assert.equal(planService(catalogued("web", { index: 0x1234 }), 101).hostname, "127.101.18.52");
  assert.equal(planService(catalogued("web", { index: 16 }), 103).hostname, "127.103.0.16");
  assert.equal(parseIp(planService(catalogued("web", { index: 32_767 }), 110).hostname)?.version, 4);
});

Deno.test("ranges that overlap are listened on once, for each protocol", () => {
  const ports = [{ low: 80, high: 82 }, { low: 81, high: 83 }, { low: 7, high: 7 }, { low: 80, high: 80 }];
  const planned = planService(catalogued("web", { ports, protocols: ["tcp", "udp"] }), 101);
  const of = (protocol: string) =>
    planned.ports.filter((p) => p.protocol === protocol).map(({ port }) => port);
  assert.deepEqual(of("tcp"), [7, 80, 81, 82, 83]);
  assert.deepEqual(of("udp"), of("tcp"));
  assert.equal(planned.note, undefined);
});

Deno.test("a service with every port gets no listener, one with many the first of them; both say so", () => {
  const every = planService(catalogued("web", { ports: [] }), 101);
  assert.deepEqual(every.ports, []);
  assert.match(every.note ?? "", /SOCKS5/);
  const ports: CataloguedService["ports"] = [{ low: 1, high: 65_535 }];
  const many = planService(catalogued("web", { ports }), 101);
  assert.equal(many.ports.length, MAX_PORTS);
  assert.match(many.note ?? "", /first 64 of its 65535/);
});

Deno.test("a port that cannot be had is 10,000 higher, where there is such a port", () => {
  assert.equal(substitutePort(80), 10_080);
  assert.equal(substitutePort(55_535), 65_535);
  assert.equal(substitutePort(55_536), undefined);
});
