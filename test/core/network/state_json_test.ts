/** Only what is a state, or a list of changes, is read as one. */

import assert from "node:assert/strict";
import { emptyState } from "../../../src/core/network/apply.ts";
import { changesFromJson, stateFromJson, stateToJson } from "../../../src/core/network/state_json.ts";

Deno.test("what is no state, or no list of changes, is refused", () => {
  const good = stateToJson(emptyState("d"));
  assert.deepEqual(stateFromJson(good), emptyState("d"));
  for (
    const bad of [
      null,
      [],
      {},
      { ...good, revision: -1 },
      { ...good, identities: [["1"]] },
      {
        ...good,
        identities: [["1", { name: "a", spec: { type: "god" } }]],
      },
      { ...good, revoked: [1] },
      { ...good, roots: ["x".repeat(65_537)] },
    ]
  ) assert.throws(() => stateFromJson(bad), { name: "ZodError" });
  for (
    const bad of [null, {}, [{}], [{ kind: "api-token", id: "1", value: null }], [{
      kind: "identity",
      id: "1",
    }]]
  ) {
    assert.throws(() => changesFromJson(bad), { name: "ZodError" });
  }
});
