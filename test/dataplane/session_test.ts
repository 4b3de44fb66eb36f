/** End-to-end sessions: who gets in, who does not and why, and how a session ends. */

import assert from "node:assert/strict";
import { connect, createServer } from "node:tls";
import type { ByteChannel } from "../../src/base/channel.ts";
import { ChannelDuplex } from "../../src/dataplane/channel_duplex.ts";
import { acceptSession, openSession } from "../../src/dataplane/session.ts";
import { SESSION_PROTOCOLS, type SessionIdentity } from "../../src/dataplane/session_handshake.ts";
import { channelPair } from "../support/channel_pair.ts";
import { sessionPair } from "../support/session_pair.ts";
import { testNetwork } from "../support/test_network.ts";

const network = await testNetwork();
const foreign = await testNetwork();
const alice = await network.issue("agent", "alice");
const bob = await network.issue("user", "bob");
const site = await network.issue("connector", "site");
const otherSite = await network.issue("connector", "other");
const relay = await network.issue("relay", "relay-1");

Deno.test("a session names both ends and gives both the same keys, mirrored", async () => {
  await using pair = await sessionPair(network);
  const { agent, connector } = pair;
  assert.equal(agent.peer.uri, site.id.uri);
  assert.equal(connector.peer.uri, alice.id.uri);
  assert.equal(agent.self, alice.id.uri);
  assert.match(agent.id, /^[0-9a-f]{32}$/);
  assert.equal(agent.id, connector.id);
  assert.deepEqual([agent.role, connector.role], ["agent", "connector"]);
  const [near, far] = [agent.flowKeys(7n), connector.flowKeys(7n)];
  assert.deepEqual(near.send, far.receive);
  assert.deepEqual(near.receive, far.send);
  assert.deepEqual([agent.nextFlowId(), agent.nextFlowId()], [0n, 1n]);
  assert.deepEqual([connector.acceptFlowId(0n), connector.acceptFlowId(0n)], [true, false]);
});

Deno.test("two sessions of one pair of identities share nothing", async () => {
  await using first = await sessionPair(network);
  await using second = await sessionPair(network);
  assert.notEqual(first.agent.id, second.agent.id);
  assert.notDeepEqual(first.agent.flowKeys(0n).send.key, second.agent.flowKeys(0n).send.key);
});

Deno.test("a session works over a stream that delivers one byte at a time", async () => {
  const [near, far] = channelPair({ readSize: () => 1 });
  const [agent, connector] = await Promise.all([
    openSession({ channel: near, identity: alice, roots: network.roots, expectPeer: site.id.uri }),
    acceptSession({ channel: far, identity: site, roots: network.roots }),
  ]);
  assert.equal(agent.id, connector.id);
  agent.close();
  await Promise.all([agent.closed, connector.closed]);
});

Deno.test("acceptSession() takes users as callers", async () => {
  const [agent, connector] = await both(bob, site);
  assert.ok(agent.status === "fulfilled" && connector.status === "fulfilled");
  assert.equal(connector.value.peer.uri, bob.id.uri);
  connector.value.close();
  assert.equal(await agent.value.closed, "ended by the peer");
});

Deno.test("openSession() refuses another connector than the expected one", async () => {
  const [agent, connector] = await both(alice, otherSite);
  assert.equal(codeOf(agent), "ERR_SESSION_PEER_MISMATCH");
  assert.equal(codeOf(connector), "ERR_SESSION_HANDSHAKE");
});

Deno.test("openSession() refuses any identity that is no connector", async () => {
  for (const identity of [bob, relay, alice]) {
    const [agent] = await both(alice, identity, { expectPeer: identity.id.uri });
    assert.equal(codeOf(agent), "ERR_SESSION_PEER_KIND", identity.id.uri);
  }
});

Deno.test("acceptSession() refuses relays as callers", async () => {
  const [agent, connector] = await both(relay, site);
  assert.equal(codeOf(connector), "ERR_SESSION_PEER_KIND");
  assert.equal(codeOf(agent), "ERR_SESSION_HANDSHAKE");
});

Deno.test("acceptSession() takes another connector, whose flows policy judges as anybody's", async () => {
  const [caller, connector] = await both(otherSite, site);
  assert.ok(caller.status === "fulfilled" && connector.status === "fulfilled");
  assert.equal(connector.value.peer.uri, otherSite.id.uri);
  caller.value.close("test ended");
  await Promise.all([caller.value.closed, connector.value.closed]);
});

Deno.test("neither end takes a certificate of another CA, even for the right name", async () => {
  const fakeSite = await foreign.issue("connector", "site");
  const [agent] = await both(alice, fakeSite, { connectorRoots: network.roots });
  assert.equal(codeOf(agent), "ERR_SESSION_UNTRUSTED");
  const fakeAlice = await foreign.issue("agent", "alice");
  const [impostor, connector] = await both(fakeAlice, site);
  assert.equal(codeOf(connector), "ERR_SESSION_HANDSHAKE");
  assert.equal(codeOf(impostor), "ERR_SESSION_HANDSHAKE");
});

Deno.test("both ends ask whether the other's certificate was revoked", async () => {
  const [near, far] = channelPair();
  const isRevoked = ({ id }: { id: { uri: string } }) => id.uri === alice.id.uri;
  const [agent, connector] = await Promise.allSettled([
    openSession({ channel: near, identity: alice, roots: network.roots, expectPeer: site.id.uri, isRevoked }),
    acceptSession({ channel: far, identity: site, roots: network.roots, isRevoked }),
  ]);
  assert.equal(codeOf(connector), "ERR_SESSION_UNTRUSTED");
  assert.equal(codeOf(agent), "ERR_SESSION_HANDSHAKE");
});

Deno.test("a certificate that has expired since it was loaded is refused", async () => {
  const [near, far] = channelPair();
  const later = () => Date.now() + 2 * 86_400_000;
  const [agent] = await Promise.allSettled([
    openSession({
      channel: near,
      identity: alice,
      roots: network.roots,
      expectPeer: site.id.uri,
      now: later,
    }),
    acceptSession({ channel: far, identity: site, roots: network.roots }),
  ]);
  assert.equal(codeOf(agent), "ERR_SESSION_UNTRUSTED");
});

Deno.test("a session ends when the first of both certificates expires", async () => {
  const [near, far] = channelPair();
  const ahead = Math.min(alice.notAfter, site.notAfter) - Date.now() - 1_500;
  const almost = () => Date.now() + ahead;
  const [agent, connector] = await Promise.all([
    openSession({
      channel: near,
      identity: alice,
      roots: network.roots,
      expectPeer: site.id.uri,
      now: almost,
    }),
    acceptSession({ channel: far, identity: site, roots: network.roots }),
  ]);
  assert.equal(agent.notAfter, Math.min(alice.notAfter, site.notAfter));
  assert.equal(await agent.closed, "certificate expired");
  assert.equal(await connector.closed, "ended by the peer");
});

Deno.test("close() ends the keys, the callbacks and the other end", async () => {
  const { agent, connector } = await sessionPair(network);
  const told: string[] = [];
  agent.onClose((reason) => told.push(reason));
  agent.onClose(() => told.push("forgotten"))();
  agent.close("test is over");
  agent.close("again");
  assert.deepEqual(told, ["test is over"]);
  assert.equal(await agent.closed, "test is over");
  assert.equal(await connector.closed, "ended by the peer");
  agent.onClose((reason) => told.push(`late: ${reason}`));
  assert.deepEqual(told, ["test is over", "late: test is over"]);
  assert.equal(agent.isClosed, true);
  assert.throws(() => agent.flowKeys(1n), { code: "ERR_SESSION_CLOSED" });
  assert.equal(connector.acceptFlowId(1n), false);
});

Deno.test("a session that is retired ends with the last of its flows, and not before new ones had their time", async () => {
  await using pair = await sessionPair(network);
  const { agent } = pair;
  const flows = [agent.onClose(() => {}), agent.onClose(() => {})];
  agent.retire(0);
  for (const end of flows) {
    agent.flowKeys(agent.nextFlowId());
    assert.equal(agent.isClosed, false);
    end();
  }
  assert.equal(await agent.closed, "replaced");
  await using idle = await sessionPair(network);
  idle.agent.retire();
  idle.agent.onClose(() => {})();
  assert.equal(idle.agent.isClosed, false);
  await using unused = await sessionPair(network);
  unused.agent.retire(0);
  assert.equal(await unused.agent.closed, "replaced");
});

Deno.test("a session ends with its stream", async () => {
  for (const end of ["abort", "closeWrite"] as const) {
    const [near, middleNear] = channelPair();
    const [middleFar, far] = channelPair();
    pipe(middleNear, middleFar);
    pipe(middleFar, middleNear);
    const [agent, connector] = await Promise.all([
      openSession({ channel: near, identity: alice, roots: network.roots, expectPeer: site.id.uri }),
      acceptSession({ channel: far, identity: site, roots: network.roots }),
    ]);
    middleNear[end]();
    middleFar[end]();
    await Promise.all([agent.closed, connector.closed]);
  }
});

Deno.test("a handshake that stalls ends with the signal, and its stream with it", async () => {
  for (const role of ["agent", "connector"] as const) {
    const [near, far] = channelPair();
    const controller = new AbortController();
    const options = { channel: near, roots: network.roots, signal: controller.signal };
    const session = role === "agent"
      ? openSession({ ...options, identity: alice, expectPeer: site.id.uri })
      : acceptSession({ ...options, identity: site });
    const reason = new Error("too slow");
    controller.abort(reason);
    await assert.rejects(session, reason);
    assert.ok(near.isAborted);
    far.abort();
  }
});

Deno.test("a signal that has fired already starts no handshake", async () => {
  const [near] = channelPair();
  const reason = new Error("never mind");
  await assert.rejects(
    openSession({
      channel: near,
      identity: alice,
      roots: network.roots,
      expectPeer: site.id.uri,
      signal: AbortSignal.abort(reason),
    }),
    reason,
  );
  assert.ok(near.isAborted);
});

Deno.test("a stream cut at any point of the handshake fails both ends", async () => {
  // The whole handshake is a few kilobytes each way; cut inside every flight.
  for (const budget of [0, 1, 100, 300, 600, 900, 1_200, 1_300, 1_400, 1_500]) {
    const [near, middleNear] = channelPair();
    const [middleFar, far] = channelPair();
    pipe(middleNear, middleFar, budget);
    pipe(middleFar, middleNear, budget);
    const [agent, connector] = await Promise.allSettled([
      openSession({ channel: near, identity: alice, roots: network.roots, expectPeer: site.id.uri }),
      acceptSession({ channel: far, identity: site, roots: network.roots }),
    ]);
    assert.equal(codeOf(agent), "ERR_SESSION_HANDSHAKE", `budget ${budget}`);
    assert.equal(codeOf(connector), "ERR_SESSION_HANDSHAKE", `budget ${budget}`);
  }
});

Deno.test("garbage instead of TLS is refused by both ends", async () => {
  const garbage = new Uint8Array(5_000).fill(0x47);
  const [near, nearPeer] = channelPair();
  const [far, farPeer] = channelPair();
  await nearPeer.write(garbage);
  await farPeer.write(garbage);
  const [agent, connector] = await Promise.allSettled([
    openSession({ channel: near, identity: alice, roots: network.roots, expectPeer: site.id.uri }),
    acceptSession({ channel: far, identity: site, roots: network.roots }),
  ]);
  assert.equal(codeOf(agent), "ERR_SESSION_HANDSHAKE");
  assert.equal(codeOf(connector), "ERR_SESSION_HANDSHAKE");
});

Deno.test("bytes after the hello messages of version 1 end the session", async () => {
  const [near, far] = channelPair();
  const accepting = acceptSession({ channel: far, identity: site, roots: network.roots });
  const socket = rawClient(near, alice, { ALPNProtocols: ["ginnel-e2e/1"] });
  socket.once("data", () => socket.write(Uint8Array.of(2, ...new Uint8Array(32))));
  const connector = await accepting;
  socket.write("more");
  assert.equal(await connector.closed, "unexpected bytes from the peer");
  socket.destroy();
});

Deno.test("a hello of the wrong kind is a protocol error", async () => {
  const [near, far] = channelPair();
  const accepting = acceptSession({ channel: far, identity: site, roots: network.roots });
  const socket = rawClient(near, alice);
  socket.once("data", () => socket.write(Uint8Array.of(1, ...new Uint8Array(32))));
  await assert.rejects(accepting, { code: "ERR_SESSION_PROTOCOL" });
  socket.destroy();
});

Deno.test("a client without a certificate, of TLS 1.2 or of another protocol is refused", async () => {
  const cases: readonly [code: string, change: object][] = [
    ["ERR_SESSION_UNTRUSTED", { cert: undefined, key: undefined }],
    ["ERR_SESSION_HANDSHAKE", { minVersion: "TLSv1.2", maxVersion: "TLSv1.2" }],
    ["ERR_SESSION_HANDSHAKE", { ALPNProtocols: ["ginnel-e2e/0"] }],
    ["ERR_SESSION_HANDSHAKE", { ALPNProtocols: undefined }],
  ];
  for (const [code, change] of cases) {
    const [near, far] = channelPair();
    const accepting = acceptSession({ channel: far, identity: site, roots: network.roots });
    const socket = rawClient(near, alice, change);
    await assert.rejects(accepting, { code }, Object.keys(change).join());
    socket.destroy();
  }
});

Deno.test("a server of TLS 1.2 or of another protocol is refused", async () => {
  for (
    const change of [{ minVersion: "TLSv1.2", maxVersion: "TLSv1.2" }, { ALPNProtocols: ["h3"] }] as const
  ) {
    const [near, far] = channelPair();
    const server = createServer({ ...tlsOptions(site), requestCert: true, ...change } as object);
    server.on("tlsClientError", () => {});
    const duplex = new ChannelDuplex({ channel: far, maxReadBytes: 65_536 });
    duplex.on("error", () => {});
    server.emit("connection", duplex);
    await assert.rejects(
      openSession({ channel: near, identity: alice, roots: network.roots, expectPeer: site.id.uri }),
      { code: "ERR_SESSION_HANDSHAKE" },
    );
    duplex.destroy();
  }
});

function both(
  agent: SessionIdentity,
  connector: SessionIdentity,
  options: { readonly expectPeer?: string; readonly connectorRoots?: readonly string[] } = {},
) {
  const { expectPeer = site.id.uri, connectorRoots = network.roots } = options;
  const [near, far] = channelPair();
  return Promise.allSettled([
    openSession({ channel: near, identity: agent, roots: network.roots, expectPeer }),
    acceptSession({ channel: far, identity: connector, roots: connectorRoots }),
  ]);
}

function codeOf(result: PromiseSettledResult<unknown>): string | undefined {
  return result.status === "rejected" ? result.reason.code : undefined;
}

/** Copies one direction until `budget` bytes have passed, then ends it. */
async function pipe(from: ByteChannel, to: ByteChannel, budget = Infinity): Promise<void> {
  try {
    let left = budget;
    let chunk: Uint8Array | null;
    while (left > 0 && (chunk = await from.read()) !== null) {
      await to.write(chunk.subarray(0, left));
      left -= chunk.length;
    }
    await to.closeWrite();
  } catch (error) {
    to.abort(error);
  }
}

function rawClient(channel: ByteChannel, identity: SessionIdentity, change: object = {}) {
  const duplex = new ChannelDuplex({ channel, maxReadBytes: 65_536 });
  duplex.on("error", () => {});
  const socket = connect({
    ...tlsOptions(identity),
    socket: duplex,
    checkServerIdentity: () => undefined,
    ...change,
  });
  socket.on("error", () => {});
  return socket;
}

function tlsOptions(identity: SessionIdentity) {
  return {
    cert: identity.certificatePem,
    key: identity.privateKeyPem,
    ca: [...network.roots],
    ALPNProtocols: [...SESSION_PROTOCOLS],
  };
}
