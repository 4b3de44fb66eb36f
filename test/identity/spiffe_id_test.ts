/** SPIFFE IDs: one spelling, everything else refused. */

import assert from "node:assert/strict";
import fc from "fast-check";
import {
  isIdentityKind,
  makeSpiffeId,
  parseSpiffeId,
  parseTrustDomainUri,
  parseWorkloadId,
  relayServerName,
  trustDomainOf,
  trustDomainUri,
} from "../../src/identity/spiffe_id.ts";

const INVALID = { code: "ERR_SPIFFE_ID_INVALID" };

Deno.test("parseSpiffeId() reads each kind", () => {
  for (const kind of ["relay", "connector", "agent", "user"]) {
    const uri = `spiffe://example.internal/${kind}/one-1`;
    assert.deepEqual(parseSpiffeId(uri), { trustDomain: "example.internal", kind, name: "one-1", uri });
  }
});

Deno.test("parseSpiffeId() refuses every other spelling", () => {
  const wrong = [
    "",
    "spiffe://",
    "spiffe:///agent/a",
    "SPIFFE://d/agent/a",
    "http://d/agent/a",
    " spiffe://d/agent/a",
    "spiffe://d/agent/a ",
    "spiffe://d/agent/a\n",
    "spiffe://d/agent/a/",
    "spiffe://d/agent/a/b",
    "spiffe://d/agent",
    "spiffe://d/agent/",
    "spiffe://d//a",
    "spiffe://d/robot/a",
    "spiffe://d/Agent/a",
    "spiffe://D/agent/a",
    "spiffe://d:443/agent/a",
    "spiffe://u@d/agent/a",
    "spiffe://d/agent/a?x=1",
    "spiffe://d/agent/a#x",
    "spiffe://d/agent/%61",
    "spiffe://d/agent/.",
    "spiffe://d/agent/..",
    "spiffe://d/agent/a\0",
    "spiffe://d/agent/\u0430lice",
    `spiffe://d/agent/${"a".repeat(64)}`,
    `spiffe://${"d".repeat(256)}/agent/a`,
  ];
  for (const text of wrong) assert.throws(() => parseSpiffeId(text), INVALID, JSON.stringify(text));
});

Deno.test("parseSpiffeId() wants a DNS label as a relay's name, because it becomes a TLS server name", () => {
  assert.equal(parseSpiffeId("spiffe://d/relay/relay-1").name, "relay-1");
  for (const name of ["Relay", "a.b", "a_b", "-a", "a-"]) {
    assert.throws(() => parseSpiffeId(`spiffe://d/relay/${name}`), INVALID, name);
    assert.equal(parseSpiffeId(`spiffe://d/agent/${name}`).name, name);
  }
});

Deno.test("parseSpiffeId() accepts the longest parts", () => {
  const uri = `spiffe://${"d".repeat(255)}/agent/${"a".repeat(63)}`;
  assert.equal(parseSpiffeId(uri).uri, uri);
});

Deno.test("parseSpiffeId() accepts exactly what it would write again", () => {
  const character = fc.constantFrom(..."abzAZ09.-_/:%@ ~");
  fc.assert(fc.property(fc.array(character, { maxLength: 30 }), (characters) => {
    const text = "spiffe://" + characters.join("");
    try {
      const id = parseSpiffeId(text);
      assert.equal(id.uri, text);
      assert.deepEqual(makeSpiffeId(id), id);
    } catch (error) {
      assert.equal((error as { code?: string }).code, INVALID.code);
    }
  }));
});

Deno.test("parseTrustDomainUri() reads a bare trust domain only", () => {
  assert.equal(parseTrustDomainUri(trustDomainUri("d.internal")), "d.internal");
  for (const text of ["d", "spiffe://", "spiffe://d/", "spiffe://d/agent/a", "spiffe://D"]) {
    assert.throws(() => parseTrustDomainUri(text), INVALID, text);
  }
});

Deno.test("relayServerName() is under a suffix that no public CA may issue", () => {
  assert.equal(relayServerName("relay-1"), "relay-1.relay.ginnel.internal");
});

Deno.test("isIdentityKind() knows the four kinds", () => {
  assert.equal(isIdentityKind("user"), true);
  assert.equal(isIdentityKind("toString"), false);
});

Deno.test("parseWorkloadId() takes any path of a trust domain, in one spelling", () => {
  const uri = "spiffe://partner.example/ns/prod/sa/billing_1";
  assert.deepEqual(parseWorkloadId(uri), {
    trustDomain: "partner.example",
    kind: "workload",
    name: "ns/prod/sa/billing_1",
    uri,
  });
  const wrong = [
    "partner.example/a",
    "spiffe://partner.example",
    "spiffe://partner.example/",
    "spiffe://partner.example/a/",
    "spiffe://partner.example//a",
    "spiffe://partner.example/../a",
    "spiffe://partner.example/a#b",
    "spiffe://Partner.example/a",
    "spiffe://partner.example:443/a",
    "spiffe:///a",
    `spiffe://partner.example/${"a".repeat(2048)}`,
  ];
  for (const text of wrong) assert.throws(() => parseWorkloadId(text), INVALID, text);
});

Deno.test("trustDomainOf() reads the domain alone", () => {
  assert.equal(trustDomainOf("spiffe://partner.example/a//"), "partner.example");
  for (const text of ["", "https://partner.example/a", "spiffe://", "spiffe://A/b", "spiffe://a:1/b"]) {
    assert.equal(trustDomainOf(text), undefined, text);
  }
});
