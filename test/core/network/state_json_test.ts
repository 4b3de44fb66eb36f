/** Only what is a state, or a list of changes, is read as one. */

import assert from "node:assert/strict";
import { emptyState } from "../../../src/core/network/apply.ts";
import {
  changesFromJson,
  stateFromJson,
  stateTextParts,
  stateToJson,
} from "../../../src/core/network/state_json.ts";
import { largeNetwork } from "../../bench/large_network.ts";

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

Deno.test("the parts of a state's text are together the state, also when entries were written before", () => {
  const large = { ...largeNetwork(), revoked: new Set(["AB", "CD"]), roots: ["pem"] };
  const [id, value] = [...large.identities][1_234]!;
  const changed = {
    ...large,
    revision: 2,
    identities: new Map(large.identities).set(id, { ...value, spec: { ...value.spec, disabled: true } }),
  };
  for (const state of [emptyState("d"), large, changed]) {
    const parts = [...stateTextParts(state)];
    assert.ok(parts.every(({ length }) => length < 200_000), "a part is much work");
    assert.deepEqual(stateFromJson(JSON.parse(parts.join(""))), state);
  }
});
