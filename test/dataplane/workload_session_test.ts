/** Workloads of foreign trust domains at either end of a session, and what their CAs cannot do. */

import assert from "node:assert/strict";
import { acceptSession, openSession } from "../../src/dataplane/session.ts";
import type { SessionIdentity } from "../../src/dataplane/session_handshake.ts";
import type { SessionTrust } from "../../src/dataplane/session_trust.ts";
import { encodePem } from "../../src/identity/pem.ts";
import { createTestNetwork, forge, type Forged } from "../identity/forge.ts";
import { channelPair } from "../support/channel_pair.ts";

const DOMAIN = "test.internal";
const network = await createTestNetwork(DOMAIN, Date.now());
const alice = await network.identity("agent", "alice");
const site = await network.identity("connector", "site");
const partner = await authority("partner.example");
const trust: SessionTrust = {
  domain: DOMAIN,
  roots: [network.ca.certificatePem],
  foreign: [{ domain: "partner.example", roots: [partner.pem] }],
};
const billing = await svid(partner, "spiffe://partner.example/ns/prod/sa/billing");
const ledger = await svid(partner, "spiffe://partner.example/ns/prod/sa/ledger");

Deno.test("a foreign CA cannot make one of ours, at neither end", async () => {
  const fakeAlice = await svid(partner, alice.id.uri);
  const fakeSite = await svid(partner, site.id.uri);
  const [, accepted] = await meet(fakeAlice, site);
  assert.equal(codeOf(accepted), "ERR_SESSION_UNTRUSTED");
  const [opened] = await meet(alice, fakeSite);
  assert.equal(codeOf(opened), "ERR_SESSION_UNTRUSTED");
});

Deno.test("a foreign CA cannot make one of another foreign domain", async () => {
  const other = await authority("other.example");
  const both = {
    ...trust,
    foreign: [...trust.foreign!, { domain: "other.example", roots: [other.pem] }],
  };
  const stray = await svid(other, billing.id.uri);
  const [, accepted] = await meet(stray, site, both);
  assert.equal(codeOf(accepted), "ERR_SESSION_UNTRUSTED");
});

Deno.test("a workload of a domain that is not trusted, or no longer, does not get in", async () => {
  const [, accepted] = await meet(billing, site, { ...trust, foreign: [] });
  assert.equal(accepted.status, "rejected");
});

Deno.test("a session with a workload ends when its domain is trusted no more", async () => {
  let now: SessionTrust = trust;
  const [near, far] = channelPair();
  const [agent, connector] = await Promise.all([
    openSession({ channel: near, identity: billing, ...trust, expectPeer: site.id.uri }),
    acceptSession({ channel: far, identity: site, ...trust, trust: () => now }),
  ]);
  connector.recheck();
  assert.equal(connector.isClosed, false);
  now = { ...trust, foreign: [] };
  connector.recheck();
  assert.equal(await connector.closed, "the peer's certificate is no longer trusted");
  await agent.closed;
});

Deno.test("a workload may call, offer, and do both with another workload", async () => {
  for (const [caller, offerer] of [[billing, site], [alice, ledger], [billing, ledger]] as const) {
    const [agent, connector] = await meet(caller, offerer);
    assert.ok(agent.status === "fulfilled" && connector.status === "fulfilled");
    assert.equal(connector.value.peer.uri, caller.id.uri);
    assert.equal(agent.value.peer.uri, offerer.id.uri);
    agent.value.close();
    await connector.value.closed;
  }
});

Deno.test("several trusted CAs of our own do not confuse either end, in whatever order, nor do intermediates", async () => {
  const next = await createTestNetwork(DOMAIN, Date.now());
  const middle = await forge({ subject: "CN=Middle", ca: true, issuer: partner, names: null, ...life() });
  const below = await svid(middle, "spiffe://partner.example/below", [middle]);
  const roots = [network.ca.certificatePem, next.ca.certificatePem];
  for (const order of [roots, roots.toReversed()]) {
    const both = { ...trust, roots: order };
    const newSite = await next.identity("connector", "site");
    for (
      const [caller, offerer] of [[alice, site], [alice, newSite], [below, newSite], [alice, below]] as const
    ) {
      const [agent, connector] = await meet(caller, offerer, both);
      assert.ok(agent.status === "fulfilled" && connector.status === "fulfilled");
      agent.value.close();
      await connector.value.closed;
    }
  }
});

Deno.test("a workload stands only for itself", async () => {
  const [agent] = await meet(alice, ledger, trust, billing.id.uri);
  assert.equal(codeOf(agent), "ERR_SESSION_PEER_MISMATCH");
});

async function meet(
  caller: SessionIdentity,
  offerer: SessionIdentity,
  trusted: SessionTrust = trust,
  expectPeer: string = offerer.id.uri,
) {
  const [near, far] = channelPair();
  return await Promise.allSettled([
    openSession({ channel: near, identity: caller, ...trusted, expectPeer }),
    acceptSession({ channel: far, identity: offerer, ...trusted }),
  ]);
}

function authority(domain: string): Promise<Forged> {
  return forge({
    subject: `CN=${domain}`,
    ca: true,
    names: [{ type: "url", value: `spiffe://${domain}` }],
    ...life(),
  });
}

async function svid(
  issuer: Forged,
  uri: string,
  intermediates: readonly Forged[] = [],
): Promise<SessionIdentity> {
  const leaf = await forge({ issuer, names: [{ type: "url", value: uri }], ...life() });
  const key = new Uint8Array(await crypto.subtle.exportKey("pkcs8", leaf.keys.privateKey));
  return {
    id: { uri },
    certificatePem: [leaf, ...intermediates].map(({ pem }) => pem).join(""),
    privateKeyPem: encodePem("PRIVATE KEY", key),
    notAfter: life().notAfter,
  };
}

function life() {
  return { notBefore: Date.now() - 60_000, notAfter: Date.now() + 3_600_000 };
}

function codeOf(result: PromiseSettledResult<unknown>): string | undefined {
  return result.status === "rejected" ? result.reason.code : undefined;
}
