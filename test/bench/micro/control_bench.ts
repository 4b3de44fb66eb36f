/** What a controller and its relays work out in a network of 10,000 identities, 1,000 services and 200 policies. */

import { applyChanges } from "../../../src/core/network/apply.ts";
import { toPolicyDocument } from "../../../src/core/network/policy_document.ts";
import { stateFromJson, stateToJson } from "../../../src/core/network/state_json.ts";
import { compilePolicy } from "../../../src/core/policy/snapshot.ts";
import { ViewCompiler } from "../../../src/core/policy/view_compiler.ts";
import { LARGE_DOMAIN, largeIdentity, largeNetwork } from "../large_network.ts";

const options = { trustDomain: LARGE_DOMAIN, declaredOnly: true };
const state = largeNetwork();
const snapshot = compilePolicy(toPolicyDocument(state), options);
const known = [...state.identities.values()].map(({ spec }) => spec.spiffeId);
const text = JSON.stringify(stateToJson(state));
const caller = largeIdentity(1);

Deno.bench("control: read a state from JSON", () => {
  stateFromJson(JSON.parse(text));
});
Deno.bench("control: compile a state", (bench) => {
  const fresh = largeNetwork();
  bench.start();
  compilePolicy(toPolicyDocument(fresh), options);
  bench.end();
});
Deno.bench("control: compile after one identity changed", (bench) => {
  const [id, value] = [...state.identities][1_001]!;
  const changed = { ...value, spec: { ...value.spec, disabled: true } };
  bench.start();
  const next = applyChanges(state, { revision: 2, changes: [{ kind: "identity", id, value: changed }] });
  compilePolicy(toPolicyDocument(next), { ...options, previous: snapshot });
  bench.end();
});
Deno.bench("control: mayDial(), allowed", { group: "decision" }, () => {
  snapshot.mayDial(caller, "service-0");
});
Deno.bench("control: mayDial(), denied", { group: "decision" }, () => {
  snapshot.mayDial(caller, "service-1");
});
Deno.bench("control: rights in the views of all 10,000", (bench) => {
  bench.start();
  const compiler = new ViewCompiler();
  compiler.update(snapshot, { known, changed: "all" });
  for (const id of known) compiler.rightsOf(id);
  bench.end();
});
