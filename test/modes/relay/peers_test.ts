/** Admission and renewal: whose connection it is, how long it lives, and what a later proof may change. */

import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { DEFAULT_RELAY_LIMITS, type RelayLimits } from "../../../src/core/limits.ts";
import type { CloseInfo, RequestHead, ServerConnection } from "../../../src/dataplane/carrier.ts";
import { parseCertificatesPem } from "../../../src/identity/certificate.ts";
import type { Identity } from "../../../src/identity/identity_file.ts";
import { createProof, ProofVerifier } from "../../../src/identity/proof.ts";
import { Peers } from "../../../src/modes/relay/peers.ts";
import { createTestNetwork } from "../../identity/forge.ts";

const network = await createTestNetwork("test.internal", Date.now());
const GROUP = "group-0123456789abcdef";
const OTHER_GROUP = "group-fedcba9876543210";

/** Seconds that a short-lived certificate lives. */
const SHORT = 2;

Deno.test("a proof of another identity costs its request and leaves the connection whose it was", async () => {
  const { peers, enter } = relay();
  const mallory = await issue("mallory", 60);
  const connection = await admitted(peers, enter(), await issue("alice", 60));
  const stolen = await peers.admit(connection, head(await prove(mallory)));
  assert.equal(stolen.verdict, "deny");
  const next = await peers.admit(connection, head());
  assert.ok(next.verdict === "allow" && next.peer.id.name === "alice");
  assert.deepEqual([...peers.identities()], ["spiffe://test.internal/agent/alice"]);
  connection.close(0, "");
});

Deno.test("neither a refused proof nor one replayed from another connection prolongs a connection", async () => {
  const { peers, enter } = relay();
  const old = await issue("alice", SHORT);
  const renewed = await issue("alice", 60);
  const [first, second] = [enter(), enter()];
  await admitted(peers, first, old);
  const token = await prove(renewed);
  assert.equal((await peers.admit(second, head(token))).verdict, "allow");
  const replayed = await peers.admit(first, head(token));
  assert.ok(replayed.verdict === "deny" && replayed.reason === "ERR_PROOF_REPLAYED");
  const forAnother = await createProof({ identity: renewed, audience: "relay-2", now: Date.now() });
  assert.equal((await peers.admit(first, head(forAnother))).verdict, "deny");
  assert.equal((await first.closed).reason, "certificate expired");
  second.close(0, "");
});

Deno.test("a new proof of the same identity carries a connection over its certificate's end", async () => {
  const { peers, enter } = relay();
  const old = await issue("alice", SHORT);
  const connection = await admitted(peers, enter(), old);
  const admission = await peers.admit(connection, head(await prove(await issue("alice", 60))));
  assert.equal(admission.verdict, "allow");
  await pastEnd(old, { peers, enter });
  assert.equal(connection.isClosed, false);
  const [peer] = peers.peers();
  assert.notEqual(peer!.serial, serialOf(old));
  connection.close(0, "");
});

Deno.test("a proof by a certificate that ends sooner shortens nothing", async () => {
  const { peers, enter } = relay();
  const connection = await admitted(peers, enter(), await issue("alice", 60));
  const short = await issue("alice", SHORT);
  assert.equal((await peers.admit(connection, head(await prove(short)))).verdict, "allow");
  await pastEnd(short, { peers, enter });
  assert.equal(connection.isClosed, false);
  connection.close(0, "");
});

Deno.test("one proof renews its group at once, but no connection of another group or identity, or of none", async () => {
  const { peers, enter } = relay();
  const old = await issue("alice", SHORT);
  const control = await admitted(peers, enter(), old, GROUP);
  const flow = await admitted(peers, enter(), old, GROUP);
  const thief = await admitted(peers, enter(), old, OTHER_GROUP);
  const plain = await admitted(peers, enter(), old);
  const bob = await admitted(peers, enter(), await issue("bob", SHORT), GROUP);
  await peers.admit(control, head(await prove(await issue("alice", 60), GROUP)));
  await Promise.all([thief.closed, plain.closed, bob.closed]);
  assert.deepEqual([control.isClosed, flow.isClosed], [false, false]);
  control.close(0, "");
  flow.close(0, "");
});

Deno.test("a proof that names another group than its connection's renews that connection alone", async () => {
  const { peers, enter } = relay();
  const old = await issue("alice", SHORT);
  const thief = await admitted(peers, enter(), old, OTHER_GROUP);
  const flow = await admitted(peers, enter(), old, GROUP);
  await peers.admit(thief, head(await prove(await issue("alice", 60), GROUP)));
  await flow.closed;
  assert.equal(thief.isClosed, false);
  thief.close(0, "");
});

Deno.test("a client may repeat the header it began with on every request", async () => {
  const { peers, enter } = relay();
  const connection = enter();
  const token = await prove(await issue("alice", 60));
  for (let request = 0; request < 3; request++) {
    assert.equal((await peers.admit(connection, head(token))).verdict, "allow");
  }
  connection.close(0, "");
});

Deno.test("closeWhere() ends the connections of those who lost their right, and of nobody else", async () => {
  const { peers, enter } = relay();
  const alice = await admitted(peers, enter(), await issue("alice", 60));
  const bob = await admitted(peers, enter(), await issue("bob", 60));
  const unproved = enter();
  peers.closeWhere(({ id }) => id.name === "alice" ? "identity disabled" : undefined);
  assert.equal((await alice.closed).reason, "identity disabled");
  assert.deepEqual([bob.isClosed, unproved.isClosed], [false, false]);
  bob.close(0, "");
  unproved.close(0, "");
});

Deno.test("connections of one identity are counted, and renewing does not count again", async () => {
  const { peers, enter } = relay({ maxConnectionsPerIdentity: 1 });
  const alice = await issue("alice", 60);
  const first = await admitted(peers, enter(), alice, GROUP);
  for (let renewal = 0; renewal < 3; renewal++) {
    assert.equal((await peers.admit(first, head(await prove(alice, GROUP)))).verdict, "allow");
  }
  const second = enter();
  assert.equal((await peers.admit(second, head(await prove(alice)))).verdict, "deny");
  first.close(0, "");
  await first.closed;
  assert.equal((await peers.admit(second, head(await prove(alice)))).verdict, "allow");
  second.close(0, "");
});

Deno.test("when a CA loses its trust, connections that showed nothing else end, whatever else they did", async () => {
  const { peers, enter, verifier } = relay();
  const next = await createTestNetwork("test.internal", Date.now());
  const roots = [network.ca.certificatePem];
  assert.equal(verifier.updateTrust({ roots: [next.ca.certificatePem, ...roots] }), false);
  const [stale, renewed, other] = [
    await admitted(peers, enter(), await issue("alice", 60), GROUP),
    await admitted(peers, enter(), await issue("bob", 60), GROUP),
    await admitted(peers, enter(), await issue("bob", 60), OTHER_GROUP),
  ];
  const bob = await next.identity("agent", "bob", { seconds: 60 });
  await admitted(peers, renewed, bob, GROUP);
  await peers.recheck();
  assert.ok([stale, renewed, other].every(({ isClosed }) => !isClosed));
  assert.equal(verifier.updateTrust({ roots: [next.ca.certificatePem] }), true);
  await peers.recheck();
  assert.equal((await stale.closed).reason, "the certificate's CA is no longer trusted");
  assert.deepEqual([renewed.isClosed, other.isClosed], [false, true]);
  renewed.close(0, "");
});

interface TestConnection extends ServerConnection {
  readonly isClosed: boolean;
}

interface Relay {
  readonly peers: Peers;
  readonly verifier: ProofVerifier;
  readonly enter: () => TestConnection;
}

function relay(limits: Partial<RelayLimits> = {}): Relay {
  const verifier = new ProofVerifier({
    roots: [network.ca.certificatePem],
    audience: "relay-1",
    trustDomain: "test.internal",
    now: Date.now,
  });
  const peers = new Peers({
    verifier,
    limits: { ...DEFAULT_RELAY_LIMITS, ...limits },
    logger: SILENT_LOGGER,
    onAdmitted: () => {},
  });
  const enter = () => {
    const connection = connectionOfNobody();
    assert.ok(peers.enter(connection));
    return connection;
  };
  return { peers, enter, verifier };
}

let connections = 0;

/** A connection that nothing travels on: what counts here is whose it is and when it ends. */
function connectionOfNobody(): TestConnection {
  const { promise: closed, resolve } = Promise.withResolvers<CloseInfo>();
  let isClosed = false;
  return {
    id: `test-${++connections}`,
    carrier: "quic",
    remote: { hostname: "127.0.0.1", port: 1 },
    closed,
    get isClosed() {
      return isClosed;
    },
    close: (code, reason) => {
      isClosed = true;
      resolve({ code, reason });
    },
    setAuthenticated: () => {},
    goaway: () => Promise.resolve(),
    async *requests() {},
    acceptWebTransport: () => Promise.reject(new Error("not here")),
  };
}

async function admitted(
  peers: Peers,
  connection: TestConnection,
  identity: Identity,
  group?: string,
): Promise<TestConnection> {
  assert.equal((await peers.admit(connection, head(await prove(identity, group)))).verdict, "allow");
  return connection;
}

function issue(name: string, seconds: number): Promise<Identity> {
  return network.identity("agent", name, { seconds });
}

function prove(identity: Identity, group?: string): Promise<string> {
  return createProof({
    identity,
    audience: "relay-1",
    now: Date.now(),
    ...(group === undefined ? {} : { group }),
  });
}

function head(token?: string): RequestHead {
  return {
    method: "HEAD",
    scheme: "https",
    authority: "relay-1.relay.ginnel.internal",
    path: "/.well-known/ginnel/view",
    headers: new Map(token === undefined ? [] : [["authorization", `Bearer ${token}`]]),
  };
}

function serialOf(identity: Identity): string {
  return parseCertificatesPem(identity.certificatePem)[0]!.serial;
}

/** Resolves at a certificate's end, after all connections were due to close that were admitted by it before. */
async function pastEnd(identity: Identity, { peers, enter }: Pick<Relay, "peers" | "enter">): Promise<void> {
  const witness = await admitted(peers, enter(), identity);
  assert.equal((await witness.closed).reason, "certificate expired");
}
