/** What a policy grants is stated in full, and two statements are the same only when they are in everything. */

import assert from "node:assert/strict";
import type { PolicyService } from "../../../src/core/policy/document.ts";
import { type RightsView, sameRights, toViewBind, toViewDial } from "../../../src/core/policy/rights_view.ts";
import { PolicyRules } from "../../../src/core/policy/snapshot.ts";
import { preferredIndex } from "../../../src/core/service/virtual_address.ts";

const INTERCEPT = {
  addresses: ["s.example"],
  portRanges: [{ low: 1, high: 2 }],
  protocols: ["tcp"],
} as const;
const HOST = { protocol: "tcp", address: "h", port: 1 } as const;

function rulesOf(service: Partial<PolicyService>): PolicyRules {
  const services = [{ name: "s", roleAttributes: [], endToEnd: "required" as const, ...service }];
  return new PolicyRules({ services, servicePolicies: [] });
}

Deno.test("callers hear of number and intercept, those that offer of host; of both what is not as everywhere", () => {
  const index = preferredIndex("s");
  const plain = rulesOf({ idleTimeout: 120 });
  assert.deepEqual(toViewDial("s", { rules: plain, bind: ["b"] }), {
    service: "s",
    endToEnd: "required",
    bind: ["b"],
    index,
  });
  assert.deepEqual(toViewBind("s", { rules: plain, dial: ["d"] }), {
    service: "s",
    endToEnd: "required",
    dial: ["d"],
  });
  const full = rulesOf({ index: 20, intercept: INTERCEPT, host: HOST, idleTimeout: 5, endToEnd: "optional" });
  assert.deepEqual(toViewDial("s", { rules: full, bind: [] }), {
    ...{ service: "s", endToEnd: "optional", bind: [], index: 20, intercept: INTERCEPT, idleTimeout: 5 },
  });
  assert.deepEqual(toViewBind("s", { rules: full, dial: [] }), {
    ...{ service: "s", endToEnd: "optional", dial: [], host: HOST, idleTimeout: 5 },
  });
});

Deno.test("sameRights() tells apart what differs in one service, setting or peer", () => {
  const intercept = {
    addresses: ["s.example"],
    portRanges: [{ low: 1, high: 2 }],
    protocols: ["tcp"],
  } as const;
  const entry = {
    service: "s",
    endToEnd: "required",
    bind: ["a"],
    index: 20,
    intercept,
    idleTimeout: 30,
  } as const;
  const host = { protocol: "tcp", address: "h", port: 1 } as const;
  const offered = { service: "s", endToEnd: "required", dial: [], host } as const;
  assert.ok(
    sameRights({ dial: [], bind: [offered] }, { dial: [], bind: [{ ...offered, host: { ...host } }] }),
  );
  assert.ok(
    !sameRights({ dial: [], bind: [offered] }, {
      dial: [],
      bind: [{ ...offered, host: { ...host, port: 2 } }],
    }),
  );
  const view: RightsView = { dial: [entry], bind: [] };
  assert.ok(sameRights(view, { dial: [{ ...entry, bind: ["a"] }], bind: [] }));
  for (
    const other of [
      { dial: [], bind: [] },
      { dial: [{ ...entry, service: "t" }], bind: [] },
      { dial: [{ ...entry, endToEnd: "optional" as const }], bind: [] },
      { dial: [{ ...entry, bind: ["b"] }], bind: [] },
      { dial: [{ ...entry, index: 21 }], bind: [] },
      { dial: [{ ...entry, idleTimeout: 31 }], bind: [] },
      { dial: [{ ...entry, intercept: { ...intercept, protocols: ["udp"] as const } }], bind: [] },
      { dial: [{ ...entry, bind: ["a", "b"] }], bind: [] },
      { dial: [entry], bind: [{ service: "s", endToEnd: "required" as const, dial: [] }] },
    ]
  ) assert.ok(!sameRights(view, other), JSON.stringify(other));
});
