/**
 * Attacks on foreign trust: a foreign CA vouches for its own trust domain and for nothing else, least of all for ours.
 */

import "reflect-metadata";
import assert from "node:assert/strict";
import { verifyChain, type VerifyChainOptions } from "../../src/identity/chain.ts";
import { DOMAIN, forge, type Forged, NOW, rejectsWith } from "./forge.ts";

const ROOT = await forge({ subject: "CN=Root", ca: true });
const PARTNER = await forge({ subject: "CN=Partner", ca: true, names: uri("spiffe://partner.example") });
const OTHER = await forge({ subject: "CN=Other", ca: true, names: uri("spiffe://other.example") });
const SVID = "spiffe://partner.example/ns/prod/sa/billing";

Deno.test("verifyChain() refuses a foreign CA that vouches for our own trust domain", async () => {
  const ours = await forge({ issuer: PARTNER, names: uri(`spiffe://${DOMAIN}/agent/alice`) });
  await rejectsWith("ERR_CERT_UNTRUSTED", () => verify([ours]));
});

Deno.test("verifyChain() refuses it also where the configuration lists our own domain as foreign", async () => {
  const ours = await forge({ issuer: PARTNER, names: uri(`spiffe://${DOMAIN}/agent/alice`) });
  const foreign = [{ domain: DOMAIN, roots: [PARTNER.pem] }];
  await rejectsWith("ERR_CERT_UNTRUSTED", () => verify([ours], { foreign, trustDomain: DOMAIN }));
  // Without a stated domain, the root's own says whose it is.
  await rejectsWith("ERR_CERT_UNTRUSTED", () => verify([ours], { foreign }));
});

Deno.test("verifyChain() refuses a foreign CA that vouches for another foreign domain", async () => {
  const leaf = await forge({ issuer: OTHER, names: uri(SVID) });
  await rejectsWith("ERR_CERT_UNTRUSTED", () => verify([leaf]));
  await rejectsWith("ERR_CERT_UNTRUSTED", () => verify([leaf, OTHER]));
  const twin = await forge({ subject: "CN=Partner", ca: true, names: uri("spiffe://partner.example") });
  await rejectsWith(
    "ERR_CERT_SIGNATURE",
    () => forge({ issuer: twin, names: uri(SVID) }).then((l) => verify([l])),
  );
});

Deno.test("verifyChain() refuses our own CA that vouches for a foreign domain", async () => {
  const leaf = await forge({ issuer: ROOT, names: uri(SVID) });
  await rejectsWith("ERR_CERT_UNTRUSTED", () => verify([leaf]));
  await rejectsWith("ERR_CERT_UNTRUSTED", () => verify([leaf, ROOT]));
});

Deno.test("verifyChain() refuses a foreign domain that is not configured, or no longer", async () => {
  const leaf = await forge({ issuer: PARTNER, names: uri(SVID) });
  await rejectsWith("ERR_CERT_UNTRUSTED", () => verify([leaf], { foreign: [] }));
  await rejectsWith(
    "ERR_CERT_NO_SPIFFE_ID",
    () => forge({ issuer: ROOT, names: uri("spiffe://stranger.example/a/b/c") }).then((l) => verify([l])),
  );
});

Deno.test("verifyChain() refuses a foreign intermediate of another domain and one that is no CA", async () => {
  const stray = await forge({
    subject: "CN=I",
    ca: true,
    issuer: PARTNER,
    names: uri("spiffe://other.example"),
  });
  const leaf = await forge({ issuer: stray, names: uri(SVID) });
  await rejectsWith("ERR_CERT_TRUST_DOMAIN", () => verify([leaf, stray]));
  const noCa = await forge({ subject: "CN=J", issuer: PARTNER, names: uri(SVID) });
  const below = await forge({ issuer: noCa, names: uri(SVID) });
  await rejectsWith("ERR_CERT_ISSUER_NOT_CA", () => verify([below, noCa]));
});

Deno.test("verifyChain() refuses a foreign leaf with two names, ours the second", async () => {
  const names = [...uri(SVID), ...uri(`spiffe://${DOMAIN}/agent/alice`)];
  const leaf = await forge({ issuer: PARTNER, names });
  await rejectsWith("ERR_CERT_SEVERAL_SPIFFE_IDS", () => verify([leaf]));
});

Deno.test("verifyChain() refuses foreign IDs that are not in normal form, or name nobody", async () => {
  const paths = ["", "/", "/a/", "//a", "/a/../b", "/a/./b", "/a?b", "/a%2fb", "/a b", "/ä"];
  for (const path of paths) {
    const leaf = await forge({ issuer: PARTNER, names: uri(`spiffe://partner.example${path}`) });
    await rejectsWith("ERR_CERT_NO_SPIFFE_ID", () => verify([leaf]));
  }
});

Deno.test("verifyChain() admits a workload under its own domain's CA, with an intermediate too", async () => {
  const direct = await verify([await forge({ issuer: PARTNER, names: uri(SVID) })]);
  assert.deepEqual(direct.id, {
    trustDomain: "partner.example",
    kind: "workload",
    name: "ns/prod/sa/billing",
    uri: SVID,
  });
  const middle = await forge({ subject: "CN=I", ca: true, issuer: PARTNER, names: null });
  assert.equal((await verify([await forge({ issuer: middle, names: uri(SVID) }), middle])).id.uri, SVID);
});

Deno.test("a workload is a workload, even where its path looks like one of our kinds", async () => {
  const leaf = await forge({ issuer: PARTNER, names: uri("spiffe://partner.example/connector/db") });
  const { id } = await verify([leaf]);
  assert.deepEqual([id.kind, id.name], ["workload", "connector/db"]);
});

Deno.test("verifyChain() admits a workload whose CA and leaf leave out what SPIFFE lets them leave out", async () => {
  const plain = await forge({ subject: "CN=Plain", ca: true, names: null });
  const leaf = await forge({ issuer: plain, names: uri(SVID), extendedKeyUsage: null });
  const foreign = [{ domain: "partner.example", roots: [plain.pem] }];
  assert.equal((await verify([leaf], { foreign })).id.uri, SVID);
});

Deno.test("verifyChain() goes on admitting our own identities beside foreign ones", async () => {
  assert.equal((await verify([await forge({ issuer: ROOT })])).id.kind, "agent");
  await rejectsWith(
    "ERR_CERT_WRONG_USE",
    () => forge({ issuer: ROOT, extendedKeyUsage: null }).then((leaf) => verify([leaf])),
  );
});

function verify(chain: readonly Forged[], options: Partial<VerifyChainOptions> = {}) {
  return verifyChain({
    chain: chain.map(({ der }) => der),
    roots: [ROOT.pem],
    now: NOW,
    foreign: [
      { domain: "partner.example", roots: [PARTNER.pem] },
      { domain: "other.example", roots: [OTHER.pem] },
    ],
    ...options,
  });
}

function uri(value: string): { type: "url"; value: string }[] {
  return [{ type: "url", value }];
}
