/** Policy decisions: a table in which every allow has denied neighbours one field away, and a naive model. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { DENY_REASONS } from "../../../src/core/policy/decision.ts";
import type {
  PolicyDocument,
  PolicyIdentity,
  PolicyService,
  ServicePolicy,
} from "../../../src/core/policy/document.ts";
import { compilePolicy } from "../../../src/core/policy/snapshot.ts";

const EMPTY_POLICY: PolicyDocument = { identities: [], services: [], servicePolicies: [] };
const ALICE = "spiffe://net.example/agent/alice";
const BOB = "spiffe://net.example/agent/bob";
const CAROL = "spiffe://net.example/user/carol";
const HOST = "spiffe://net.example/connector/host";
const RELAY = "spiffe://net.example/relay/relay-1";
const FOREIGN = "spiffe://other.example/agent/alice";
const WORKLOAD = "spiffe://other.example/ns/prod/sa/api";

const S0: ServicePolicy = {
  name: "rtmx-sync-access",
  type: "Dial",
  identityRoles: ["#rtmx-users"],
  serviceRoles: ["@rtmx-sync"],
  semantic: "AnyOf",
};

function documentWith(parts: Partial<PolicyDocument>): PolicyDocument {
  return {
    identities: [
      { name: "agent/alice", roleAttributes: ["rtmx-users", "staff"] },
      { name: "bob", roleAttributes: ["staff"] },
      { name: "connector/host", roleAttributes: ["rtmx-hosts"] },
      { name: "partner", id: WORKLOAD, roleAttributes: ["rtmx-users"] },
    ],
    services: [
      { name: "rtmx-sync", roleAttributes: ["rtmx", "web"], endToEnd: "required" },
      { name: "postgres", roleAttributes: ["rtmx", "db"], endToEnd: "required" },
      { name: "wiki", roleAttributes: [], endToEnd: "optional" },
    ],
    servicePolicies: [S0],
    ...parts,
  };
}

function dial(policy: Partial<ServicePolicy>, id: string, service: string): string {
  const snapshot = compilePolicy(
    documentWith({ servicePolicies: [{ ...S0, name: "p", ...policy }] }),
    { trustDomain: "net.example" },
  );
  const decision = snapshot.mayDial(id, service);
  return decision.verdict === "allow" ? `allow ${decision.policy}` : decision.reason;
}

/** Each group: one allowed request, then requests that differ from it in one field and are denied. */
const TABLE: { what: string; rows: [Partial<ServicePolicy>, string, string, string][] }[] = [
  {
    what: "an attribute and a named service",
    rows: [
      [{}, ALICE, "rtmx-sync", "allow p"],
      [{}, BOB, "rtmx-sync", "no_matching_policy"],
      [{}, ALICE, "postgres", "no_matching_policy"],
      [{}, ALICE, "rtmx-sync2", "unknown_service"],
      [{}, ALICE, "RTMX-SYNC", "unknown_service"],
      [{ type: "Bind" }, ALICE, "rtmx-sync", "no_matching_policy"],
      [{ identityRoles: ["#rtmx-user"] }, ALICE, "rtmx-sync", "no_matching_policy"],
      [{ identityRoles: ["rtmx-users"] }, ALICE, "rtmx-sync", "no_matching_policy"],
      [{ identityRoles: ["@rtmx-users"] }, ALICE, "rtmx-sync", "no_matching_policy"],
      [{ identityRoles: [] }, ALICE, "rtmx-sync", "no_matching_policy"],
      [{ serviceRoles: [] }, ALICE, "rtmx-sync", "no_matching_policy"],
      [{ serviceRoles: ["#rtmx-sync"] }, ALICE, "rtmx-sync", "no_matching_policy"],
      [{ identityRoles: ["#"], serviceRoles: ["@"] }, ALICE, "rtmx-sync", "no_matching_policy"],
    ],
  },
  {
    what: "@name spans agents, users and connectors, but not other names or domains",
    rows: [
      [{ identityRoles: ["@alice"] }, ALICE, "rtmx-sync", "allow p"],
      [{ identityRoles: ["@alice"] }, "spiffe://net.example/user/alice", "rtmx-sync", "allow p"],
      [{ identityRoles: ["@alice"] }, BOB, "rtmx-sync", "no_matching_policy"],
      [{ identityRoles: ["@alice"] }, FOREIGN, "rtmx-sync", "no_matching_policy"],
      [{ identityRoles: ["@Alice"] }, ALICE, "rtmx-sync", "no_matching_policy"],
      [{ identityRoles: ["@alice"] }, "spiffe://net.example/agent/alice2", "rtmx-sync", "no_matching_policy"],
      [
        { identityRoles: ["@alice"] },
        "spiffe://net.example/relay/alice",
        "rtmx-sync",
        "identity_without_rights",
      ],
    ],
  },
  {
    what: "@kind/name means that kind",
    rows: [
      [{ identityRoles: ["@agent/alice"] }, ALICE, "rtmx-sync", "allow p"],
      [
        { identityRoles: ["@agent/alice"] },
        "spiffe://net.example/user/alice",
        "rtmx-sync",
        "no_matching_policy",
      ],
      [{ identityRoles: ["@agent/alice"] }, FOREIGN, "rtmx-sync", "no_matching_policy"],
    ],
  },
  {
    what: "@spiffe://… means that identity, in whatever domain",
    rows: [
      [{ identityRoles: [`@${FOREIGN}`] }, FOREIGN, "rtmx-sync", "allow p"],
      [{ identityRoles: [`@${FOREIGN}`] }, ALICE, "rtmx-sync", "no_matching_policy"],
      [{ identityRoles: [`@${FOREIGN}`] }, `${FOREIGN}/x`, "rtmx-sync", "no_matching_policy"],
    ],
  },
  {
    what: "a declared nickname means its id alone",
    rows: [
      [{ identityRoles: ["@partner"] }, WORKLOAD, "rtmx-sync", "allow p"],
      [
        { identityRoles: ["@partner"] },
        "spiffe://net.example/agent/partner",
        "rtmx-sync",
        "no_matching_policy",
      ],
      [
        { identityRoles: ["@partner"] },
        "spiffe://other.example/ns/prod/sa/web",
        "rtmx-sync",
        "no_matching_policy",
      ],
    ],
  },
  {
    what: "#all means every identity of the network and the declared foreign ones, never relays",
    rows: [
      [{ identityRoles: ["#all"] }, CAROL, "rtmx-sync", "allow p"],
      [{ identityRoles: ["#all"] }, WORKLOAD, "rtmx-sync", "allow p"],
      [{ identityRoles: ["#all"] }, FOREIGN, "rtmx-sync", "no_matching_policy"],
      [{ identityRoles: ["#all"] }, RELAY, "rtmx-sync", "identity_without_rights"],
      [{ identityRoles: ["#all"] }, "", "rtmx-sync", "no_matching_policy"],
      [{ identityRoles: ["#all"] }, "spiffe://net.example/agent/", "rtmx-sync", "no_matching_policy"],
      [{ identityRoles: ["#all"] }, "spiffe://net.example/agent/a/b", "rtmx-sync", "no_matching_policy"],
      [{ identityRoles: ["#all"] }, "spiffe://net.example/root/alice", "rtmx-sync", "no_matching_policy"],
      [{ identityRoles: ["#all"] }, CAROL, "absent", "unknown_service"],
      [{ identityRoles: [`@${RELAY}`] }, RELAY, "rtmx-sync", "identity_without_rights"],
    ],
  },
  {
    what: "#all on the service side means every declared service",
    rows: [
      [{ serviceRoles: ["#all"] }, ALICE, "wiki", "allow p"],
      [{ serviceRoles: ["#all"] }, ALICE, "absent", "unknown_service"],
      [{ serviceRoles: ["#all"] }, BOB, "wiki", "no_matching_policy"],
    ],
  },
  {
    what: "AllOf wants every attribute, AnyOf one",
    rows: [
      [{ identityRoles: ["#rtmx-users", "#staff"], semantic: "AllOf" }, ALICE, "rtmx-sync", "allow p"],
      [
        { identityRoles: ["#rtmx-users", "#staff"], semantic: "AllOf" },
        BOB,
        "rtmx-sync",
        "no_matching_policy",
      ],
      [{ identityRoles: ["#rtmx-users", "#staff"], semantic: "AnyOf" }, BOB, "rtmx-sync", "allow p"],
      [
        { identityRoles: ["#rtmx-users", "#staff"], semantic: "AnyOf" },
        CAROL,
        "rtmx-sync",
        "no_matching_policy",
      ],
      [{ serviceRoles: ["#rtmx", "#web"], semantic: "AllOf" }, ALICE, "rtmx-sync", "allow p"],
      [{ serviceRoles: ["#rtmx", "#web"], semantic: "AllOf" }, ALICE, "postgres", "no_matching_policy"],
      [{ serviceRoles: ["#rtmx", "#web"], semantic: "AnyOf" }, ALICE, "postgres", "allow p"],
    ],
  },
  {
    what: "@name matches by itself under AllOf, and does not lend its attributes to others",
    rows: [
      [{ identityRoles: ["@carol", "#staff", "#x"], semantic: "AllOf" }, CAROL, "rtmx-sync", "allow p"],
      [
        { identityRoles: ["@carol", "#staff", "#x"], semantic: "AllOf" },
        BOB,
        "rtmx-sync",
        "no_matching_policy",
      ],
      [{ identityRoles: ["@carol", "@bob"], semantic: "AllOf" }, BOB, "rtmx-sync", "allow p"],
      [{ identityRoles: ["@carol", "@bob"], semantic: "AllOf" }, ALICE, "rtmx-sync", "no_matching_policy"],
    ],
  },
  {
    what: "#all beside attributes widens AnyOf and adds nothing to AllOf",
    rows: [
      [{ identityRoles: ["#all", "#staff"], semantic: "AnyOf" }, CAROL, "rtmx-sync", "allow p"],
      [{ identityRoles: ["#all", "#staff"], semantic: "AllOf" }, BOB, "rtmx-sync", "allow p"],
      [{ identityRoles: ["#all", "#staff"], semantic: "AllOf" }, CAROL, "rtmx-sync", "no_matching_policy"],
    ],
  },
];

for (const { what, rows } of TABLE) {
  Deno.test(`mayDial(): ${what}`, () => {
    for (const [policy, id, service, expected] of rows) {
      assert.equal(dial(policy, id, service), expected, `${JSON.stringify(policy)} ${id} ${service}`);
    }
  });
}

Deno.test("the empty document denies everything, with a reason of the closed list", () => {
  const snapshot = compilePolicy(EMPTY_POLICY);
  for (const id of [ALICE, RELAY, WORKLOAD, "", "*"]) {
    for (const decision of [snapshot.mayDial(id, "rtmx-sync"), snapshot.mayBind(id, "rtmx-sync")]) {
      assert.deepEqual(decision, { verdict: "deny", reason: "unknown_service" });
      assert.ok(DENY_REASONS.includes("unknown_service"));
    }
    assert.deepEqual(snapshot.visibleServices(id), []);
  }
});

Deno.test("declared services without policies deny everything", () => {
  const snapshot = compilePolicy(documentWith({ servicePolicies: [] }));
  assert.deepEqual(snapshot.mayDial(ALICE, "rtmx-sync"), { verdict: "deny", reason: "no_matching_policy" });
  assert.deepEqual(snapshot.mayBind(HOST, "rtmx-sync"), { verdict: "deny", reason: "no_matching_policy" });
});

Deno.test("S0 alone names an undeclared service: it grants nothing and says so", () => {
  const snapshot = compilePolicy({ ...EMPTY_POLICY, servicePolicies: [S0] });
  assert.deepEqual(snapshot.mayDial(ALICE, "rtmx-sync"), { verdict: "deny", reason: "unknown_service" });
  assert.deepEqual(snapshot.warnings, [
    { policy: "rtmx-sync-access", role: "#rtmx-users", reason: "attribute_nobody_has" },
    { policy: "rtmx-sync-access", role: "@rtmx-sync", reason: "undeclared_service" },
  ]);
});

Deno.test("warnings name undeclared identities, which still match by certificate, and spare what is declared", () => {
  const snapshot = compilePolicy(documentWith({
    servicePolicies: [{
      ...S0,
      identityRoles: ["@carol", "@agent/alice", "@bob", "@partner", "#all", `@${WORKLOAD}`],
    }],
  }));
  assert.deepEqual(snapshot.warnings, [
    { policy: "rtmx-sync-access", role: "@carol", reason: "undeclared_identity" },
  ]);
  assert.equal(snapshot.mayDial(CAROL, "rtmx-sync").verdict, "allow");
});

Deno.test("a decision names the first policy, in document order, that allows", () => {
  const filler = Array.from(
    { length: 40 },
    (_, i): ServicePolicy => ({ ...S0, name: `f${i}`, identityRoles: [] }),
  );
  const snapshot = compilePolicy(documentWith({
    servicePolicies: [...filler, { ...S0, name: "second-word" }, S0],
  }));
  assert.deepEqual(snapshot.mayDial(ALICE, "rtmx-sync"), { verdict: "allow", policy: "second-word" });
});

Deno.test("identity side and service side must match in the same policy", () => {
  const snapshot = compilePolicy(documentWith({
    servicePolicies: [
      { ...S0, name: "a", identityRoles: ["@alice"], serviceRoles: ["@wiki"] },
      { ...S0, name: "b", identityRoles: ["@bob"], serviceRoles: ["@rtmx-sync"] },
    ],
  }));
  assert.equal(snapshot.mayDial(ALICE, "wiki").verdict, "allow");
  assert.equal(snapshot.mayDial(ALICE, "rtmx-sync").verdict, "deny");
  assert.equal(snapshot.mayDial(BOB, "wiki").verdict, "deny");
});

Deno.test("attributes of every entry that means an identity add up, also for AllOf", () => {
  const document = (identities: PolicyIdentity[]) =>
    compilePolicy({
      identities,
      services: [{ name: "s", roleAttributes: [], endToEnd: "required" }],
      servicePolicies: [{ ...S0, identityRoles: ["#a", "#b"], serviceRoles: ["@s"], semantic: "AllOf" }],
    }, { trustDomain: "net.example" });
  const split = document([
    { name: "alice", roleAttributes: ["a"] },
    { name: "agent/alice", roleAttributes: ["b"] },
  ]);
  assert.equal(split.mayDial(ALICE, "s").verdict, "allow");
  assert.equal(split.mayDial("spiffe://net.example/user/alice", "s").verdict, "deny");
  const apart = document([{ name: "alice", roleAttributes: ["a"] }, { name: "bob", roleAttributes: ["b"] }]);
  assert.equal(apart.mayDial(ALICE, "s").verdict, "deny");
});

Deno.test("attributesOf() adds up what all entries that mean the identity say, and knows no relay", () => {
  const identities = [
    { name: "alice", roleAttributes: ["a"] },
    { name: "agent/alice", roleAttributes: ["b"] },
    { name: "bob", roleAttributes: ["c"] },
  ];
  const snapshot = compilePolicy({ ...EMPTY_POLICY, identities }, { trustDomain: "net.example" });
  assert.deepEqual([...snapshot.attributesOf(ALICE)!].sort(), ["a", "b"]);
  assert.deepEqual([...snapshot.attributesOf(CAROL)!], []);
  assert.deepEqual([...snapshot.attributesOf(FOREIGN)!], []);
  assert.equal(snapshot.attributesOf(RELAY), undefined);
});

Deno.test("visibleServices() lists what may be dialled or bound, sorted, and nothing else", () => {
  const snapshot = compilePolicy(documentWith({
    servicePolicies: [
      { ...S0, name: "d", identityRoles: ["@alice"], serviceRoles: ["@wiki"] },
      { ...S0, name: "b", type: "Bind", identityRoles: ["@alice", "@host"], serviceRoles: ["@postgres"] },
    ],
  }));
  assert.deepEqual(snapshot.visibleServices(ALICE), ["postgres", "wiki"]);
  assert.deepEqual(snapshot.visibleServices(HOST), ["postgres"]);
  assert.deepEqual(snapshot.visibleServices(BOB), []);
  assert.deepEqual(snapshot.serviceNames, ["postgres", "rtmx-sync", "wiki"]);
  assert.equal(snapshot.service("wiki")?.endToEnd, "optional");
  assert.equal(snapshot.service("absent"), undefined);
});

Deno.test("without a trust domain every ID of the network's form is one of ours, others stay strangers", () => {
  const snapshot = compilePolicy(documentWith({ servicePolicies: [{ ...S0, identityRoles: ["#all"] }] }));
  assert.equal(snapshot.mayDial(FOREIGN, "rtmx-sync").verdict, "allow");
  assert.equal(snapshot.mayDial("spiffe://other.example/ns/x/sa/y", "rtmx-sync").verdict, "deny");
});

Deno.test("names from Object.prototype are names like any other", () => {
  const services = ["constructor", "__proto__", "tostring"]
    .map((name): PolicyService => ({ name, roleAttributes: [], endToEnd: "required" }));
  const open = compilePolicy({
    identities: [],
    services: [],
    servicePolicies: [{ ...S0, identityRoles: ["#all"], serviceRoles: ["#all"] }],
  });
  const declared = compilePolicy({
    identities: [],
    services,
    servicePolicies: [{ ...S0, identityRoles: ["#all"], serviceRoles: ["@__proto__"] }],
  });
  for (const { name } of services) {
    assert.equal(open.mayDial(ALICE, name).verdict, "deny");
    assert.equal(declared.mayDial(ALICE, name).verdict, name === "__proto__" ? "allow" : "deny");
  }
});

Deno.test("decisions agree with a naive reading of the document", () => {
  fc.assert(
    fc.property(
      arbitraryDocument,
      fc.constantFrom(...IDS),
      fc.constantFrom(...SERVICES),
      (document, id, service) => {
        const snapshot = compilePolicy(document, { trustDomain: "d" });
        for (const type of ["Dial", "Bind"] as const) {
          const decision = type === "Dial" ? snapshot.mayDial(id, service) : snapshot.mayBind(id, service);
          const expected = naivePolicy(document, { type, id, service });
          assert.equal(decision.verdict === "allow" ? decision.policy : undefined, expected);
        }
        const visible = SERVICES.filter((name) =>
          naivePolicy(document, { type: "Dial", id, service: name }) !== undefined ||
          naivePolicy(document, { type: "Bind", id, service: name }) !== undefined
        );
        assert.deepEqual(snapshot.visibleServices(id), visible.sort());
      },
    ),
    { numRuns: 1500 },
  );
});

Deno.test("removing a policy never widens a right, adding one never narrows it", () => {
  fc.assert(
    fc.property(
      arbitraryDocument,
      fc.constantFrom(...IDS),
      fc.constantFrom(...SERVICES),
      (document, id, service) => {
        const less = { ...document, servicePolicies: document.servicePolicies.slice(1) };
        const allowedLess =
          compilePolicy(less, { trustDomain: "d" }).mayDial(id, service).verdict === "allow";
        const allowed =
          compilePolicy(document, { trustDomain: "d" }).mayDial(id, service).verdict === "allow";
        assert.ok(allowed || !allowedLess);
      },
    ),
  );
});

const ATTRIBUTES = ["x", "y", "z"];
const SERVICES = ["s1", "s2", "s3", "undeclared"];
const IDS = [
  "spiffe://d/agent/a",
  "spiffe://d/user/a",
  "spiffe://d/connector/b",
  "spiffe://d/relay/a",
  "spiffe://e/agent/a",
  "spiffe://e/ns/n/sa/a",
  "garbage",
];
const NAMES = ["a", "b", "agent/a", "connector/b"];

const arbitraryAttributes = fc.subarray(ATTRIBUTES);
const arbitraryIdentityRole = fc.constantFrom(
  ...["#x", "#y", "#z", "#all", "#nobody", "@a", "@b", "@agent/a", "@nick", "x", "#", "@", ""],
  ...IDS.map((id) => `@${id}`),
);
const arbitraryServiceRole = fc.constantFrom(
  "#x",
  "#y",
  "#z",
  "#all",
  "@s1",
  "@s2",
  "@undeclared",
  "s1",
  "#",
  "@",
);

const arbitraryDocument: fc.Arbitrary<PolicyDocument> = fc.record({
  identities: fc.array(
    fc.oneof(
      fc.record({ name: fc.constantFrom(...NAMES), roleAttributes: arbitraryAttributes }),
      fc.record({ id: fc.constantFrom(...IDS), roleAttributes: arbitraryAttributes }),
      fc.record({
        name: fc.constantFrom("nick", "a"),
        id: fc.constantFrom(...IDS),
        roleAttributes: arbitraryAttributes,
      }),
    ),
    { maxLength: 5 },
  ),
  services: fc.uniqueArray(
    fc.record({
      name: fc.constantFrom("s1", "s2", "s3"),
      roleAttributes: arbitraryAttributes,
      endToEnd: fc.constant("required" as const),
    }),
    { selector: (service) => service.name },
  ),
  servicePolicies: fc.array(
    fc.record({
      type: fc.constantFrom("Dial" as const, "Bind" as const),
      identityRoles: fc.array(arbitraryIdentityRole, { maxLength: 3 }),
      serviceRoles: fc.array(arbitraryServiceRole, { maxLength: 3 }),
      semantic: fc.constantFrom("AnyOf" as const, "AllOf" as const),
    }),
    { maxLength: 80, size: "max" },
  ).map((policies) => policies.map((policy, index) => ({ ...policy, name: `p${index}` }))),
});

/** The rules of document.ts and identity_index.ts, read word by word: the first allowing policy's name. */
function naivePolicy(
  document: PolicyDocument,
  question: { type: "Dial" | "Bind"; id: string; service: string },
): string | undefined {
  const service = document.services.find(({ name }) => name === question.service);
  const [, , domain, kind, name, ...more] = question.id.split("/");
  const wellFormed = question.id.startsWith("spiffe://") && more.length === 0 && name !== undefined &&
    ["agent", "user", "connector", "relay"].includes(kind!);
  if (service === undefined || (wellFormed && kind === "relay")) return undefined;
  const ours = wellFormed && domain === "d";
  const isNickname = (text: string) =>
    document.identities.some((entry) => entry.id !== undefined && entry.name === text);
  const means = (text: string): boolean =>
    text === question.id ||
    document.identities.some((entry) => entry.id === question.id && entry.name === text) ||
    (ours && !isNickname(text) && (text === name || text === `${kind}/${name}`));
  const held = new Set(
    document.identities.filter((entry) => means(entry.id ?? entry.name!)).flatMap((entry) =>
      entry.roleAttributes
    ),
  );
  const member = ours || document.identities.some((entry) => entry.id === question.id);
  const selects = (
    roles: readonly string[],
    side: { semantic: string; named: (text: string) => boolean; has: (attribute: string) => boolean },
  ) => {
    if (roles.some((role) => role.length > 1 && role[0] === "@" && side.named(role.slice(1)))) return true;
    const wanted = roles.filter((role) => role.length > 1 && role[0] === "#").map((role) => role.slice(1));
    if (wanted.length === 0) return false;
    return side.semantic === "AllOf" ? wanted.every(side.has) : wanted.some(side.has);
  };
  return document.servicePolicies.find(({ type, identityRoles, serviceRoles, semantic }) =>
    type === question.type &&
    selects(identityRoles, {
      semantic,
      named: means,
      has: (attribute) => attribute === "all" ? member : held.has(attribute),
    }) &&
    selects(serviceRoles, {
      semantic,
      named: (text) => text === service.name,
      has: (attribute) => attribute === "all" || service.roleAttributes.includes(attribute),
    })
  )?.name;
}
