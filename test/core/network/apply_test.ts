/** States move on by changes and leave the ones before alone, wherever the changes come from. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { applyChanges, emptyState } from "../../../src/core/network/apply.ts";
import type { NetworkChange } from "../../../src/core/network/changes.ts";
import { changesFromJson, stateFromJson, stateToJson } from "../../../src/core/network/state_json.ts";

const id = fc.constantFrom("1", "2", "3");
const attributes = fc.array(fc.string({ maxLength: 4 }), { maxLength: 2 });
const identity = fc.record({
  kind: fc.constant("identity" as const),
  id,
  value: fc.option(fc.record({
    name: fc.string({ minLength: 1, maxLength: 4 }),
    spec: fc.record({
      type: fc.constantFrom("agent" as const, "relay" as const, "workload" as const),
      spiffeId: fc.constant("spiffe://d/agent/x"),
      roleAttributes: attributes,
      derivedAttributes: attributes,
      disabled: fc.boolean(),
      address: fc.option(fc.string()),
    }),
  })),
});
const service = fc.record({
  kind: fc.constant("service" as const),
  id,
  value: fc.option(fc.record({
    name: fc.string({ minLength: 1, maxLength: 4 }),
    spec: fc.record({
      encryptionRequired: fc.boolean(),
      roleAttributes: attributes,
      configs: fc.constantFrom({}, { "host.v1": { port: 1 } }),
    }),
  })),
});
const rest = fc.oneof(
  fc.record({ kind: fc.constant("egress" as const), document: fc.constantFrom(null, { a: 1 }) }),
  fc.record({ kind: fc.constant("revoked" as const), serials: fc.uniqueArray(fc.constantFrom("A", "B")) }),
  fc.record({ kind: fc.constant("roots" as const), roots: attributes }),
  fc.record({
    kind: fc.constant("pools" as const),
    pools: fc.record({ ipv4: fc.constantFrom("10.0.0.0/8", null), ipv6: fc.constant(null) }),
  }),
);
const changes: fc.Arbitrary<NetworkChange[]> = fc.array(fc.oneof(identity, service, rest), { maxLength: 8 })
  .map((list) => structuredClone(list));

Deno.test("a state after changes is the same whether they came at once, one by one, or over the wire", () => {
  fc.assert(fc.property(changes, changes, (first, second) => {
    const before = applyChanges(emptyState("d"), { revision: 1, changes: first });
    const copy = structuredClone(stateToJson(before));
    const after = applyChanges(before, { revision: 2, changes: second });
    assert.deepEqual(stateToJson(before), copy);
    const together = applyChanges(emptyState("d"), { revision: 2, changes: [...first, ...second] });
    assert.deepEqual(after, together);
    let oneByOne = before;
    for (const change of second) oneByOne = applyChanges(oneByOne, { revision: 2, changes: [change] });
    if (second.length > 0) assert.deepEqual(after, oneByOne);
    const wire = JSON.parse(JSON.stringify({ state: stateToJson(before), changes: second }));
    const told = { revision: 2, changes: changesFromJson(wire.changes) };
    assert.deepEqual(applyChanges(stateFromJson(wire.state), told), after);
  }));
});
