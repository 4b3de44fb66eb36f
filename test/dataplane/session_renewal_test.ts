/** Renewal inside a session: what lets it outlive a certificate, and everything that must not. */

import assert from "node:assert/strict";
import { connect, type TLSSocket } from "node:tls";
import { concat, toHex } from "../../src/base/bytes.ts";
import { ChannelDuplex } from "../../src/dataplane/channel_duplex.ts";
import { deriveSessionId, deriveSessionSecret } from "../../src/dataplane/flow_keys.ts";
import { acceptSession, openSession, type Session } from "../../src/dataplane/session.ts";
import { SESSION_PROTOCOLS } from "../../src/dataplane/session_handshake.ts";
import type { SessionTrust } from "../../src/dataplane/session_trust.ts";
import { parseCertificatesPem } from "../../src/identity/certificate.ts";
import type { Identity } from "../../src/identity/identity_file.ts";
import { createProof } from "../../src/identity/proof.ts";
import { createRenewal } from "../../src/identity/renewal.ts";
import { encodeMessage, MessageReader } from "../../src/wire/control/framing.ts";
import { createTestNetwork } from "../identity/forge.ts";
import { channelPair } from "../support/channel_pair.ts";
import { eventually } from "../support/eventually.ts";

const network = await createTestNetwork("test.internal", Date.now());
const roots = [network.ca.certificatePem];
const site = await network.identity("connector", "site");
const alice = await network.identity("agent", "alice", { seconds: 600 });
const newAlice = await network.identity("agent", "alice", { seconds: 3_600 });
const bob = await network.identity("agent", "bob", { seconds: 3_600 });

/** What an attacker who holds a session may send in place of an honest renewal, and the reason it is refused for. */
const refused: readonly [
  what: string,
  reason: string,
  make: (session: string) => Promise<string>,
][] = [
  ["another identity's", "ERR_SUBJECT_MISMATCH", (session) => renewal(bob, { session })],
  ["another session's", "ERR_PROOF_SESSION", () => renewal(newAlice, { session: "00".repeat(16) })],
  [
    "another peer's",
    "ERR_PROOF_AUDIENCE",
    (session) => renewal(newAlice, { session, audience: "spiffe://test.internal/connector/other" }),
  ],
  ["the same certificate's", "ERR_PROOF_REPLAYED", (session) => renewal(alice, { session })],
  [
    "a proof to a relay",
    "ERR_PROOF_MALFORMED",
    () => createProof({ identity: newAlice, audience: site.id.uri, now: Date.now() }),
  ],
  [
    "an expired one",
    "ERR_PROOF_EXPIRED",
    (session) => renewal(newAlice, { session, now: Date.now() - 120_000 }),
  ],
  [
    "one from the future",
    "ERR_PROOF_NOT_YET_VALID",
    (session) => renewal(newAlice, { session, now: Date.now() + 120_000 }),
  ],
  ["a foreign CA's", "ERR_CERT_SIGNATURE", async (session) => {
    const twin = await createTestNetwork("test.internal", Date.now());
    return await renewal(await twin.identity("agent", "alice"), { session });
  }],
  ["one that another key signed", "ERR_PROOF_SIGNATURE", async (session) => {
    const [header] = (await renewal(newAlice, { session })).split(".");
    const [, ...rest] = (await renewal({ ...newAlice, privateKey: bob.privateKey }, { session })).split(".");
    return [header, ...rest].join(".");
  }],
  ["no token", "ERR_PROOF_MALFORMED", () => Promise.resolve("renew me")],
];

for (const [what, reason, make] of refused) {
  Deno.test(`a session is not prolonged by ${what} renewal`, async () => {
    await using attacker = await enter();
    const before = attacker.session.notAfter;
    attacker.send({ type: "renew", proof: await make(attacker.id) });
    assert.deepEqual(await attacker.next(), { type: "refused", reason });
    assert.equal(attacker.session.notAfter, before);
    assert.equal(attacker.session.isClosed, false);
  });
}

Deno.test("a renewal counts once: replayed, it brings nothing", async () => {
  await using attacker = await enter();
  const proof = await renewal(newAlice, { session: attacker.id });
  attacker.send({ type: "renew", proof });
  assert.deepEqual(await attacker.next(), { type: "renewed", until: newAlice.notAfter });
  attacker.send({ type: "renew", proof });
  assert.deepEqual(await attacker.next(), { type: "refused", reason: "ERR_PROOF_REPLAYED" });
});

Deno.test("a renewal by a revoked certificate is refused, also when it is revoked while it is judged", async () => {
  // Asked in the handshake, for the renewal's chain, and once more when all else is judged.
  for (const answers of [[false, true, true], [false, false, true]]) {
    let question = 0;
    await using attacker = await enter({ isRevoked: () => answers[question++] ?? true });
    attacker.send({ type: "renew", proof: await renewal(newAlice, { session: attacker.id }) });
    assert.deepEqual(await attacker.next(), { type: "refused", reason: "ERR_CERT_REVOKED" });
    assert.equal(attacker.session.notAfter, alice.notAfter);
  }
});

Deno.test("whatever is no renewal ends the session", async () => {
  const hostile: readonly Uint8Array[] = [
    encodeMessage({ type: "renew" }),
    encodeMessage({ type: "renew", proof: 7 }),
    encodeMessage({ type: "renew", proof: "a".repeat(8_193) }),
    encodeMessage({ type: "open" }),
    Uint8Array.of(2, 0x7b, 0x7b),
    Uint8Array.of(0x80, 0xff, 0xff, 0xff),
  ];
  for (const bytes of hostile) {
    await using attacker = await enter();
    attacker.socket.write(bytes);
    assert.equal(await attacker.session.closed, "unexpected bytes from the peer");
  }
});

Deno.test("a peer that floods a session with refused renewals loses it", async () => {
  await using attacker = await enter();
  const proof = "x".repeat(8_000);
  for (let message = 0; message < 9; message++) attacker.send({ type: "renew", proof });
  assert.match(await attacker.session.closed, /stream lost|ended by the peer/);
});

Deno.test("an answer to what was never offered changes nothing", async () => {
  await using attacker = await enter();
  const before = attacker.session.notAfter;
  attacker.send({ type: "renewed", until: before + 1e9 });
  attacker.send({ type: "renew", proof: "none" });
  assert.equal((await attacker.next()).type, "refused");
  assert.equal(attacker.session.notAfter, before);
});

Deno.test("a peer's word prolongs our half no further than our own certificate", async () => {
  await using attacker = await enter({}, await network.identity("connector", "site", { seconds: 60 }));
  attacker.send({ type: "renew", proof: await renewal(newAlice, { session: attacker.id }) });
  await attacker.next();
  const better = await network.identity("connector", "site", { seconds: 120 });
  attacker.session.renew(better);
  assert.equal((await attacker.next()).type, "renew");
  attacker.send({ type: "renewed", until: Date.now() + 1e9 });
  await eventually(() => attacker.session.notAfter === better.notAfter);
});

Deno.test("a session outlives the certificates it was made with, renewed from both ends", async () => {
  const shortAlice = await network.identity("agent", "alice", { seconds: 2 });
  const shortSite = await network.identity("connector", "site", { seconds: 2 });
  const [agent, connector] = await pair(shortAlice, shortSite);
  agent.renew(newAlice);
  connector.renew(site);
  const until = Math.min(newAlice.notAfter, site.notAfter);
  await eventually(() => agent.notAfter === until && connector.notAfter === until);
  assert.equal(connector.peerSerial, serialOf(newAlice));
  // A session beside it that is not renewed shows when the first one was due to end.
  const [witness, other] = await pair(shortAlice, shortSite);
  assert.match(await witness.closed, /certificate expired|ended by the peer/);
  await other.closed;
  assert.deepEqual([agent.isClosed, connector.isClosed], [false, false]);
  agent.close();
  await connector.closed;
});

Deno.test("renew() with another identity, or with nothing newer, sends nothing", async () => {
  await using attacker = await enter();
  attacker.session.renew(site);
  attacker.session.renew(await network.identity("connector", "other", { seconds: 1_000_000 }));
  attacker.send({ type: "renew", proof: "none" });
  // The answer to ours is the first thing that comes.
  assert.equal((await attacker.next()).type, "refused");
});

Deno.test("a peer of version 1 is never told of renewals", async () => {
  const short = await network.identity("connector", "site", { seconds: 60 });
  await using attacker = await enter({}, short, ["ginnel-e2e/1"]);
  attacker.session.renew(site);
  attacker.session.close();
  await attacker.ended;
  assert.deepEqual(attacker.received, []);
});

Deno.test("a session ends when its peer is revoked, or nobody vouches for it any more", async () => {
  let revokedSerial = "";
  let trust: SessionTrust = { roots, isRevoked: ({ serial }) => serial === revokedSerial };
  const other = await createTestNetwork("test.internal", Date.now());
  const sessions = await Promise.all([pair(alice, site, () => trust), pair(bob, site, () => trust)]);
  const connectors = sessions.map(([, connector]) => connector);
  revokedSerial = serialOf(alice);
  connectors.forEach((session) => session.recheck());
  assert.equal(await connectors[0]!.closed, "the peer's certificate was revoked");
  assert.equal(connectors[1]!.isClosed, false);
  trust = { ...trust, roots: [...roots, other.ca.certificatePem] };
  connectors[1]!.recheck();
  trust = { ...trust, roots: [other.ca.certificatePem] };
  connectors[1]!.recheck();
  assert.equal(await connectors[1]!.closed, "the peer's certificate is no longer trusted");
  await Promise.all(sessions.map(([agent]) => agent.closed));
});

Deno.test("after a renewal the new certificate is the one that may be revoked", async () => {
  let revokedSerial = serialOf(alice);
  const trust = () => ({
    roots,
    isRevoked: ({ serial }: { serial: string }) => serial === revokedSerial && isLate,
  });
  let isLate = false;
  const [agent, connector] = await pair(alice, site, trust);
  agent.renew(newAlice);
  await eventually(() => connector.peerSerial === serialOf(newAlice));
  isLate = true;
  connector.recheck();
  assert.equal(connector.isClosed, false);
  revokedSerial = serialOf(newAlice);
  connector.recheck();
  assert.equal(await connector.closed, "the peer's certificate was revoked");
  await agent.closed;
});

interface Attacker extends AsyncDisposable {
  /** The connector's end. */
  readonly session: Session;
  readonly id: string;
  readonly socket: TLSSocket;
  readonly received: readonly unknown[];
  readonly ended: Promise<void>;
  send(message: object): void;
  next(): Promise<{ readonly type: string }>;
}

/** A session of alice's with `site` whose agent end is ours to misuse. */
async function enter(
  trust: Partial<SessionTrust> = {},
  connector: Identity = site,
  protocols: readonly string[] = SESSION_PROTOCOLS,
): Promise<Attacker> {
  const [near, far] = channelPair();
  const accepting = acceptSession({ channel: far, identity: connector, roots, ...trust });
  const duplex = new ChannelDuplex({ channel: near, maxReadBytes: 1e6 });
  duplex.on("error", () => {});
  const socket = connect({
    socket: duplex,
    cert: alice.certificatePem,
    key: alice.privateKeyPem,
    ca: roots,
    ALPNProtocols: [...protocols],
    checkServerIdentity: () => undefined,
  });
  socket.on("error", () => {});
  const clientRandom = new Uint8Array(32).fill(7);
  const reader = new MessageReader();
  const received: { type: string }[] = [];
  let taken = 0;
  let serverRandom: Uint8Array | undefined;
  const ended = new Promise<void>((resolve) => socket.once("close", () => resolve()));
  socket.on("data", (bytes: Uint8Array) => {
    if (serverRandom === undefined) {
      serverRandom = bytes.slice(1, 33);
      socket.write(concat([Uint8Array.of(2), clientRandom]));
      bytes = bytes.subarray(33);
    }
    reader.push(bytes);
    for (let value = reader.next(); value !== undefined; value = reader.next()) {
      received.push(value as { type: string });
    }
  });
  socket.on("end", () => socket.end());
  const session = await accepting;
  const secret = deriveSessionSecret({
    serverRandom: serverRandom!,
    clientRandom,
    agent: alice.id.uri,
    connector: connector.id.uri,
  });
  const id = toHex(deriveSessionId(secret));
  assert.equal(id, session.id);
  return {
    session,
    id,
    socket,
    received,
    ended,
    send: (message) => void socket.write(encodeMessage(message)),
    next: () => eventually(() => received[taken] === undefined ? undefined : received[taken++]),
    [Symbol.asyncDispose]: async () => {
      session.close();
      await session.closed;
      socket.destroy();
      duplex.destroy();
      await ended;
    },
  };
}

async function pair(
  agent: Identity,
  connector: Identity,
  trust?: () => SessionTrust,
): Promise<readonly [agent: Session, connector: Session]> {
  const [near, far] = channelPair();
  const shared = { roots, ...(trust === undefined ? {} : { trust }) };
  return await Promise.all([
    openSession({ channel: near, identity: agent, expectPeer: connector.id.uri, ...shared }),
    acceptSession({ channel: far, identity: connector, ...shared }),
  ]);
}

function renewal(
  identity: Identity,
  options: { readonly session: string; readonly audience?: string; readonly now?: number },
): Promise<string> {
  return createRenewal(identity, { audience: site.id.uri, now: Date.now(), ...options });
}

function serialOf(identity: Identity): string {
  return parseCertificatesPem(identity.certificatePem)[0]!.serial;
}
