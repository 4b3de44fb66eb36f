/** The compiler's shortcuts give what asking every question one by one gives, also after any changes. */

import assert from "node:assert/strict";
import fc from "fast-check";
import type { PolicyDocument, PolicyIdentity } from "../../../src/core/policy/document.ts";
import { compilePolicy, type PolicySnapshot } from "../../../src/core/policy/snapshot.ts";
import { sameRights } from "../../../src/core/policy/rights_view.ts";
import { ViewCompiler } from "../../../src/core/policy/view_compiler.ts";

const IDS = Array.from({ length: 8 }, (_, i) => `spiffe://d/agent/a${i}`);
const ATTRIBUTES = ["p", "q", "r"];
const OPTIONS = { trustDomain: "d", declaredOnly: true };

const attributes = fc.uniqueArray(fc.constantFrom(...ATTRIBUTES));
const roles = fc.uniqueArray(
  fc.constantFrom("#all", "@a1", "@s1", ...ATTRIBUTES.map((attribute) => `#${attribute}`)),
  { maxLength: 3 },
);
const service = attributes.chain((roleAttributes) =>
  fc.constantFrom("required" as const, "optional" as const).map((endToEnd) => ({ roleAttributes, endToEnd }))
);
const policy = fc.record({
  type: fc.constantFrom("Dial" as const, "Bind" as const),
  identityRoles: roles,
  serviceRoles: roles,
  semantic: fc.constantFrom("AnyOf" as const, "AllOf" as const),
});
const identity = fc.option(attributes, { nil: undefined });

Deno.test("rightsOf() says what the policy says, after each of many changes", () => {
  fc.assert(fc.property(
    fc.array(service, { maxLength: 5 }),
    fc.array(policy, { maxLength: 40 }),
    fc.tuple(...IDS.map(() => identity)),
    fc.array(fc.tuple(fc.nat(IDS.length - 1), identity), { maxLength: 8 }),
    (services, policies, present, changes) => {
      const rules = {
        services: services.map((service, i) => ({ name: `s${i}`, ...service })),
        servicePolicies: policies.map((policy, i) => ({ name: `p${i}`, ...policy })),
      };
      const compiler = new ViewCompiler();
      const identities = [...present];
      let snapshot = compilePolicy(documentOf(identities, rules), OPTIONS);
      compiler.update(snapshot, { known: IDS, changed: "all" });
      check(compiler, snapshot);
      for (const [index, attributes] of changes) {
        identities[index] = attributes;
        snapshot = compilePolicy(documentOf(identities, rules), { ...OPTIONS, previous: snapshot });
        compiler.update(snapshot, { known: new Set(IDS), changed: new Set([IDS[index]!]) });
        check(compiler, snapshot);
      }
    },
  ));
});

Deno.test("rights that a change does not touch stay the same object", () => {
  const rules = {
    services: ["s", "t"].map((name) => ({ name, roleAttributes: [], endToEnd: "required" as const })),
    servicePolicies: [
      {
        name: "1",
        type: "Dial" as const,
        identityRoles: ["#p"],
        serviceRoles: ["@s"],
        semantic: "AnyOf" as const,
      },
      {
        name: "2",
        type: "Bind" as const,
        identityRoles: ["#q"],
        serviceRoles: ["@s"],
        semantic: "AnyOf" as const,
      },
      {
        name: "3",
        type: "Dial" as const,
        identityRoles: ["#r"],
        serviceRoles: ["@t"],
        semantic: "AnyOf" as const,
      },
    ],
  };
  const identities: (string[] | undefined)[] = [["p"], ["q"], ["r"], ["p"]];
  const compiler = new ViewCompiler();
  const before = compilePolicy(documentOf(identities, rules), OPTIONS);
  compiler.update(before, { known: IDS, changed: "all" });
  const [dialler, binder, other] = IDS.slice(0, 3).map((id) => compiler.rightsOf(id));
  assert.equal(compiler.rightsOf(IDS[3]!), dialler);
  identities[3] = undefined;
  const after = compilePolicy(documentOf(identities, rules), { ...OPTIONS, previous: before });
  compiler.update(after, { known: new Set(IDS.slice(0, 3)), changed: new Set([IDS[3]!]) });
  assert.equal(compiler.rightsOf(IDS[0]!), dialler);
  assert.equal(compiler.rightsOf(IDS[2]!), other);
  assert.ok(!sameRights(compiler.rightsOf(IDS[1]!), binder!));
  assert.deepEqual(compiler.rightsOf(IDS[1]!).bind[0]!.dial, [IDS[0]]);
  assert.deepEqual(compiler.rightsOf(IDS[3]!), { dial: [], bind: [] });
});

function documentOf(
  identities: readonly (readonly string[] | undefined)[],
  rules: Pick<PolicyDocument, "services" | "servicePolicies">,
): PolicyDocument {
  const entries: PolicyIdentity[] = [];
  identities.forEach((roleAttributes, i) => {
    if (roleAttributes !== undefined) entries.push({ id: IDS[i]!, roleAttributes });
  });
  return { identities: entries, ...rules };
}

/** Every right of everybody, asked one by one. */
function check(compiler: ViewCompiler, policy: PolicySnapshot): void {
  const may = (right: "mayDial" | "mayBind", service: string) =>
    IDS.filter((id) => policy[right](id, service).verdict === "allow");
  for (const id of IDS) {
    const expected = {
      dial: policy.serviceNames.filter((service) => may("mayDial", service).includes(id)).map((service) => ({
        service,
        endToEnd: policy.service(service)!.endToEnd,
        bind: may("mayBind", service),
        index: policy.rules.indexes.get(service),
      })),
      bind: policy.serviceNames.filter((service) => may("mayBind", service).includes(id)).map((service) => ({
        service,
        endToEnd: policy.service(service)!.endToEnd,
        dial: may("mayDial", service),
      })),
    };
    assert.deepEqual(compiler.rightsOf(id), expected);
  }
}
