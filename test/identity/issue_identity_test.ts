import assert from "node:assert/strict";
import { createAuthority } from "../../src/identity/authority.ts";
import { parseIdentity } from "../../src/identity/identity_file.ts";
import { issueIdentity } from "../../src/identity/issue_identity.ts";
import { createCa } from "../../src/identity/pki.ts";

const NOW = Date.now();

Deno.test("issueIdentity() makes the text of a file that loads, for the identity asked for", async () => {
  const ca = await createCa({ trustDomain: "clinic.example", now: NOW, days: 10 });
  const { publicJwk } = await createAuthority();
  const issued = await issueIdentity(ca, {
    kind: "agent",
    name: "alice",
    now: NOW,
    days: 1,
    authorities: [publicJwk],
  });
  const identity = await parseIdentity(issued.text, { source: "alice.json", now: NOW });
  assert.equal(identity.id.uri, "spiffe://clinic.example/agent/alice");
  assert.equal(identity.id.uri, issued.id.uri);
  assert.equal(identity.notAfter, issued.notAfter);
  assert.deepEqual(identity.trust, {
    domain: "clinic.example",
    roots: [ca.certificatePem],
    authorities: [publicJwk],
    foreign: [],
  });
  assert.equal(identity.network, undefined);
});

Deno.test("issueIdentity() gives every identity a key of its own", async () => {
  const ca = await createCa({ trustDomain: "clinic.example", now: NOW, days: 10 });
  const options = { kind: "connector", name: "db", now: NOW, days: 1, authorities: [] } as const;
  const [one, two] = await Promise.all([issueIdentity(ca, options), issueIdentity(ca, options)]);
  assert.notEqual(JSON.parse(one.text).privateKey, JSON.parse(two.text).privateKey);
});
