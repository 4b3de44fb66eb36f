/** Whom the words of an egress policy mean, each with a neighbour whom they do not. */

import assert from "node:assert/strict";
import { IdentityMatcher, wordsFor } from "../../../src/core/egress/identity_matcher.ts";
import { identity } from "../../support/egress.ts";

const SCOPE = { trustDomain: "d" };
const ALICE = identity("agent/alice", { attributes: ["nurses"] });
const OTHERS = {
  user: identity("user/alice"),
  bob: identity("agent/bob"),
  relay: identity("relay/alice", { attributes: ["nurses"] }),
  connector: identity("connector/alice"),
  foreign: identity("agent/alice", { domain: "e" }),
  longerDomain: identity("agent/alice", { domain: "d.e" }),
  foreignNurse: identity("agent/alice", { domain: "e", attributes: ["nurses"] }),
};

const TABLE: [word: string, ...meant: (keyof typeof OTHERS)[]][] = [
  ["spiffe://d/agent/alice"],
  ["agent/alice"],
  ["alice", "user"],
  ["#nurses", "foreignNurse"],
  ["#all", "user", "bob"],
];

for (const [word, ...meant] of TABLE) {
  Deno.test(`${word} means alice${meant.length > 0 ? " and " : ""}${meant.join(", ")} and nobody else`, () => {
    const matcher = new IdentityMatcher([word], SCOPE);
    assert.ok(matcher.matches(ALICE));
    for (const [name, other] of Object.entries(OTHERS)) {
      assert.equal(matcher.matches(other), meant.includes(name as keyof typeof OTHERS), name);
    }
  });
}

Deno.test("strangers and connectors are meant by their full names only, relays by nothing", () => {
  assert.ok(new IdentityMatcher(["spiffe://e/agent/alice"], SCOPE).matches(OTHERS.foreign));
  assert.ok(new IdentityMatcher(["connector/alice"], SCOPE).matches(OTHERS.connector));
  for (const word of ["spiffe://d/relay/alice", "relay/alice", "alice", "#all", "#nurses"]) {
    assert.equal(new IdentityMatcher([word], SCOPE).matches(OTHERS.relay), false, word);
  }
});

Deno.test("no word means nobody, and an attribute is not a name", () => {
  assert.equal(new IdentityMatcher([], SCOPE).matches(ALICE), false);
  assert.equal(new IdentityMatcher(["nurses"], SCOPE).matches(ALICE), false);
  assert.equal(new IdentityMatcher(["#alice"], SCOPE).matches(ALICE), false);
});

Deno.test("where users come from logins, a name of theirs is nobody else's", () => {
  const scope = { ...SCOPE, hasLogins: true };
  assert.deepEqual(wordsFor(OTHERS.user, scope), ["spiffe://d/user/alice", "user/alice", "#all"]);
  assert.ok(!new IdentityMatcher(["alice"], scope).matches(OTHERS.user));
  assert.ok(new IdentityMatcher(["alice"], scope).matches(ALICE));
  assert.ok(new IdentityMatcher(["user/alice"], scope).matches(OTHERS.user));
});

Deno.test("wordsFor() gives the most exact word first", () => {
  assert.deepEqual(wordsFor(ALICE, SCOPE), ["spiffe://d/agent/alice", "agent/alice", "alice", "#all"]);
  assert.deepEqual(wordsFor(OTHERS.foreign, SCOPE), ["spiffe://e/agent/alice"]);
  assert.deepEqual(wordsFor(OTHERS.longerDomain, SCOPE), ["spiffe://d.e/agent/alice"]);
});
