/** Policy files: the S0 document verbatim, joining, and errors that name file, line and column. */

import assert from "node:assert/strict";
import { compilePolicy } from "../../src/core/policy/snapshot.ts";
import { ConfigError } from "../../src/config/errors.ts";
import { loadPolicy, parsePolicy } from "../../src/config/policy_file.ts";

const S0_TEXT =
  '{"name":"rtmx-sync-access","type":"Dial","identityRoles":["#rtmx-users"],"serviceRoles":["@rtmx-sync"],"semantic":"AnyOf"}';
const S0 = JSON.parse(S0_TEXT);

function problemsOf(...files: [file: string, text: string][]): string[] {
  try {
    parsePolicy(files.map(([file, text]) => ({ file, text })));
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    assert.equal(error.code, "ERR_POLICY");
    return error.message.split("\n");
  }
  assert.fail("expected a ConfigError");
}

Deno.test("the S0 policy loads verbatim, as .json and as .yaml, alone, in a list and in a document", () => {
  const texts: [string, string][] = [
    ["p.json", S0_TEXT],
    ["p.yaml", S0_TEXT],
    ["p.json", `[${S0_TEXT}]`],
    ["p.yml", `- ${S0_TEXT}\n`],
    ["p.json", `{"servicePolicies":[${S0_TEXT}]}`],
  ];
  for (const [file, text] of texts) {
    assert.deepEqual(parsePolicy([{ file, text }]), { identities: [], services: [], servicePolicies: [S0] });
  }
});

Deno.test("S0 is enforced once its service and its users are declared, in whichever file", () => {
  const declared =
    "services: [{name: rtmx-sync}]\nidentities: [{name: agent/alice, roleAttributes: [rtmx-users]}]\n";
  const s0 = { file: "s0.json", text: S0_TEXT };
  const rest = { file: "rest.yaml", text: declared };
  for (const texts of [[s0, rest], [rest, s0]]) {
    const snapshot = compilePolicy(parsePolicy(texts), { trustDomain: "d" });
    assert.deepEqual(snapshot.warnings, []);
    assert.deepEqual(snapshot.mayDial("spiffe://d/agent/alice", "rtmx-sync"), {
      verdict: "allow",
      policy: "rtmx-sync-access",
    });
    assert.equal(snapshot.mayDial("spiffe://d/agent/bob", "rtmx-sync").verdict, "deny");
    assert.equal(snapshot.mayDial("spiffe://d/user/alice", "rtmx-sync").verdict, "deny");
    assert.equal(snapshot.mayBind("spiffe://d/agent/alice", "rtmx-sync").verdict, "deny");
  }
});

Deno.test("defaults are the narrow ones: AllOf, end to end required, no attributes", () => {
  const text = "identities: [{id: 'spiffe://e/ns/n/sa/a'}]\nservices: [{name: web}]\n" +
    "servicePolicies: [{name: p, type: Bind, identityRoles: [], serviceRoles: []}]\n";
  assert.deepEqual(parsePolicy([{ file: "p.yaml", text }]), {
    identities: [{ id: "spiffe://e/ns/n/sa/a", roleAttributes: [] }],
    services: [{ name: "web", roleAttributes: [], endToEnd: "required" }],
    servicePolicies: [{ name: "p", type: "Bind", identityRoles: [], serviceRoles: [], semantic: "AllOf" }],
  });
});

Deno.test("a service has a number, intercept.v1, host.v1 and an idle time-out", () => {
  const text = "services:\n  - name: web\n    index: 16\n    idleTimeout: 5m\n" +
    "    intercept: {addresses: [Web.Example], portRanges: [{low: 443, high: 443}], protocols: [tcp]}\n" +
    "    host: {protocol: tcp, address: localhost, port: 8000}\n";
  assert.deepEqual(parsePolicy([{ file: "p.yaml", text }]).services, [{
    name: "web",
    roleAttributes: [],
    endToEnd: "required",
    index: 16,
    idleTimeout: 300,
    intercept: { addresses: ["web.example"], portRanges: [{ low: 443, high: 443 }], protocols: ["tcp"] },
    host: { protocol: "tcp", address: "localhost", port: 8000 },
  }]);
});

Deno.test("no files, and a document without entries, grant nothing", () => {
  const empty = { identities: [], services: [], servicePolicies: [] };
  assert.deepEqual(parsePolicy([]), empty);
  assert.deepEqual(parsePolicy([{ file: "p.yaml", text: "servicePolicies: []\n" }]), empty);
});

const policy = (fields: string) =>
  `servicePolicies:\n  - name: p\n    type: Dial\n    identityRoles: ["#a"]\n    serviceRoles: ["#a"]\n${fields}`;
const TABLE: [what: string, text: string, ...lines: string[]][] = [
  ["an empty file", "", "p.yaml:1:1: not YAML: the file is empty"],
  [
    "broken YAML",
    "services:\n  - name: [a\n",
    "p.yaml:3:1: not YAML: flow sequence in block collection must be sufficiently indented and end with a ]",
  ],
  ["a field given twice", "services: []\nservices: []\n", "p.yaml:2:1: not YAML: this field is given twice"],
  ["plain text", "allow everything", "p.yaml:1:1: expected an object, found a string"],
  [
    "one number for two services",
    "services: [{name: a, index: 20}, {name: b, index: 20}]\n",
    "p.yaml:1:51: services[1].index = 20: this index is given twice, first at p.yaml:1:29",
  ],
  [
    "numbers and times out of bounds",
    "services:\n  - {name: a, index: 15}\n  - {name: b, index: 32768}\n  - {name: c, idleTimeout: 4s}\n" +
    "  - {name: d, idleTimeout: 5500ms}\n",
    "p.yaml:2:22: services[0].index = 15: must be at least 16",
    "p.yaml:3:22: services[1].index = 32768: must be at most 32767",
    'p.yaml:4:28: services[2].idleTimeout = "4s": must be from 5s to 1d',
    'p.yaml:5:28: services[3].idleTimeout = "5500ms": give whole seconds',
  ],
  [
    "configs that are none",
    "services:\n  - name: a\n    intercept: {addresses: [0.0.0.0/0], portRanges: [], protocols: [tcp]}\n" +
    "    host: {protocol: tcp, forwardAddress: true, port: 1}\n",
    'p.yaml:3:29: services[0].intercept.addresses[0] = "0.0.0.0/0": cannot be intercepted: a machine never routes it to a network, or it covers every address',
    "p.yaml:3:53: services[0].intercept.portRanges = […]: must have at least 1 entries",
    "p.yaml:4:11: services[0].host.allowedAddresses: forwardAddress needs it: nothing is forwarded that is not allowed",
  ],
  [
    "a slip in a field",
    "servicePolices: []\n",
    "p.yaml:1:1: servicePolices = […]: unknown field; did you mean servicePolicies?",
  ],
  [
    "a slip in a single policy",
    'name: p\ntype: Dial\nidentityRoles: ["#a"]\nserviceRole: ["#a"]\n',
    "p.yaml:1:1: serviceRoles: is missing",
    "p.yaml:4:1: serviceRole = […]: unknown field; did you mean serviceRoles?",
  ],
  [
    "an unknown type",
    "- {name: p, type: dial, identityRoles: [], serviceRoles: []}\n",
    'p.yaml:1:19: [0].type = "dial": expected Dial or Bind; did you mean Dial?',
  ],
  [
    "an unknown semantic",
    policy("    semantic: anyOf\n"),
    'p.yaml:6:15: servicePolicies[0].semantic = "anyOf": expected AnyOf or AllOf; did you mean AnyOf?',
  ],
  [
    "a role without a prefix",
    "- {name: p, type: Dial, identityRoles: [a], serviceRoles: [a]}\n",
    'p.yaml:1:41: [0].identityRoles[0] = "a": not an identity role: write #attribute, @name, @agent/name, @spiffe://… or #all',
    'p.yaml:1:60: [0].serviceRoles[0] = "a": not a service role: write #attribute, @name or #all',
  ],
  [
    "a role left unquoted, which YAML reads as a comment",
    "- name: p\n  type: Dial\n  identityRoles:\n    - #all\n  serviceRoles: ['#all']\n",
    'p.yaml:4:7: [0].identityRoles[0] = null: is empty: put "#…" in quotes, since YAML takes a bare # for a comment',
  ],
  [
    "#all among others",
    "- {name: p, type: Dial, identityRoles: ['#all', '#a'], serviceRoles: ['#all']}\n",
    "p.yaml:1:40: [0].identityRoles = […]: #all stands alone: remove it or the other roles",
  ],
  [
    "a relay as identity",
    "- {name: p, type: Dial, identityRoles: ['@relay/r'], serviceRoles: ['#all']}\n",
    'p.yaml:1:41: [0].identityRoles[0] = "@relay/r": not an identity role: write #attribute, @name, @agent/name, @spiffe://… or #all',
  ],
  [
    "an attribute with its #",
    "services: [{name: a, roleAttributes: ['#x']}]\n",
    'p.yaml:1:39: services[0].roleAttributes[0] = "#x": not an attribute: leave out the # and write it without spaces',
  ],
  [
    "the attribute all",
    "services: [{name: a, roleAttributes: [all]}]\n",
    'p.yaml:1:39: services[0].roleAttributes[0] = "all": everything has the attribute all already',
  ],
  [
    "an identity without name and id",
    "identities: [{roleAttributes: [x]}]\n",
    "p.yaml:1:14: identities[0] = {…}: give name, id or both",
  ],
  [
    "an identity whose id is none",
    "identities: [{id: 'spiffe://D/agent/a'}]\n",
    'p.yaml:1:19: identities[0].id = "spiffe://D/agent/a": not a SPIFFE ID: write spiffe://DOMAIN/KIND/NAME',
  ],
  [
    "a name that contradicts its id",
    "identities: [{name: agent/a, id: 'spiffe://d/agent/b'}]\n",
    'p.yaml:1:21: identities[0].name = "agent/a": contradicts id: leave out the part before /',
  ],
  [
    "a service that is no host name",
    "services: [{name: 10.0.0.1}]\n",
    'p.yaml:1:19: services[0].name = "10.0.0.1": not a service name: it would read as an IP address or a number',
  ],
  [
    "a service named twice",
    "services:\n  - name: a\n  - name: a\n",
    'p.yaml:3:11: services[1].name = "a": this service is given twice, first at p.yaml:2:11',
  ],
  [
    "an identity named twice",
    "identities:\n  - name: a\n  - name: a\n",
    'p.yaml:3:11: identities[1].name = "a": this identity is given twice, first at p.yaml:2:11',
  ],
];

for (const [what, text, ...lines] of TABLE) {
  Deno.test(`parsePolicy() refuses ${what}`, () => assert.deepEqual(problemsOf(["p.yaml", text]), lines));
}

Deno.test("a policy given in two files names both places", () => {
  assert.deepEqual(problemsOf(["a.json", S0_TEXT], ["b.yaml", `- ${S0_TEXT}`]), [
    'b.yaml:1:11: [0].name = "rtmx-sync-access": this service policy is given twice, first at a.json:1:9',
  ]);
});

Deno.test("a .json file must be strict JSON", () => {
  assert.deepEqual(problemsOf(["p.json", "services: []\n"]), [
    "p.json:1:1: not JSON: text must stand in double quotes",
  ]);
});

Deno.test("every file's problems are reported at once", () => {
  assert.deepEqual(problemsOf(["a.yaml", ""], ["b.yaml", "x: 1\n"]).map((line) => line.split(":")[0]), [
    "a.yaml",
    "b.yaml",
  ]);
});

Deno.test("a file with very many mistakes is refused quickly, with the first of them", () => {
  const identities = Array.from({ length: 20_000 }, (_, index) => ({ name: `no name ${index}` }));
  const lines = problemsOf(["p.json", JSON.stringify({ identities }, null, 1)]);
  assert.equal(lines.length, 51);
  assert.match(lines[0]!, /^p\.json:4:\d+: identities\[0\]\.name = "no name 0": not an identity name/);
  assert.equal(lines[50], "p.json: and 19950 more problems");
  const twice = Array.from({ length: 20_000 }, () => ({ name: "a" }));
  assert.equal(problemsOf(["p.json", JSON.stringify({ identities: twice })]).length, 50);
});

Deno.test("loadPolicy() joins files, and names those it cannot read beside those it cannot parse", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const [s0, services, broken] = [`${folder}/s0.json`, `${folder}/services.yaml`, `${folder}/broken.yaml`];
    await Deno.writeTextFile(s0, S0_TEXT);
    await Deno.writeTextFile(services, "services:\n  - name: rtmx-sync\n");
    await Deno.writeTextFile(broken, "services: [\n");
    const document = await loadPolicy([s0, services]);
    assert.deepEqual(document.servicePolicies, [S0]);
    assert.deepEqual(document.services.map(({ name }) => name), ["rtmx-sync"]);
    await assert.rejects(loadPolicy([`${folder}/absent.yaml`, broken, s0]), (error) => {
      assert.ok(error instanceof ConfigError);
      assert.equal(error.code, "ERR_POLICY");
      assert.deepEqual(error.problems.map(({ file }) => file), [`${folder}/absent.yaml`, broken]);
      assert.equal(error.problems[0]?.message, "no such file");
      return true;
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
