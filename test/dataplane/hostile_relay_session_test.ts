/**
 * What a hostile relay can try on the session itself, and the code under which the ends refuse it.
 */

import assert from "node:assert/strict";
import type { ByteChannel } from "../../src/base/channel.ts";
import { acceptSession, openSession } from "../../src/dataplane/session.ts";
import type { SessionIdentity } from "../../src/dataplane/session_handshake.ts";
import { channelPair } from "../support/channel_pair.ts";
import { testNetwork } from "../support/test_network.ts";

const network = await testNetwork();
const alice = await network.issue("agent", "alice");
const mallory = await network.issue("agent", "mallory");
const site = await network.issue("connector", "site");
const otherSite = await network.issue("connector", "other");
const relayIdentity = await network.issue("relay", "relay-1");
const controller = await network.issue("controller", "controller-1");
const fakeNetwork = await testNetwork();

Deno.test("a relay that terminates the session itself is refused by both ends, whatever it shows", async () => {
  const fakeSite = await fakeNetwork.issue("connector", "site");
  const fakeAlice = await fakeNetwork.issue("agent", "alice");
  const atAgent: readonly [code: string, shown: SessionIdentity][] = [
    ["ERR_SESSION_UNTRUSTED", fakeSite],
    ["ERR_SESSION_PEER_KIND", relayIdentity],
    ["ERR_SESSION_PEER_KIND", mallory],
    ["ERR_SESSION_PEER_MISMATCH", otherSite],
  ];
  for (const [code, shown] of atAgent) {
    const [near, far] = channelPair();
    const [agent] = await Promise.allSettled([
      openSession({ channel: near, identity: alice, roots: network.roots, expectPeer: site.id.uri }),
      acceptSession({ channel: far, identity: shown, roots: network.roots }),
    ]);
    assert.equal(codeOf(agent), code, shown.id.uri);
  }
  const atConnector: readonly [code: string, shown: SessionIdentity][] = [
    ["ERR_SESSION_HANDSHAKE", fakeAlice],
    ["ERR_SESSION_PEER_KIND", relayIdentity],
    ["ERR_SESSION_PEER_KIND", controller],
  ];
  for (const [code, shown] of atConnector) {
    const [near, far] = channelPair();
    const [agent, connector] = await Promise.allSettled([
      openSession({ channel: near, identity: shown, roots: network.roots, expectPeer: site.id.uri }),
      acceptSession({ channel: far, identity: site, roots: network.roots }),
    ]);
    assert.equal(codeOf(connector), code, shown.id.uri);
    assert.equal(codeOf(agent), "ERR_SESSION_HANDSHAKE", "no agent believes in a session it was refused");
  }
});

Deno.test("a relay that leads the session to another connector is refused", async () => {
  const [near, far] = channelPair();
  const [agent, connector] = await Promise.allSettled([
    openSession({ channel: near, identity: alice, roots: network.roots, expectPeer: site.id.uri }),
    acceptSession({ channel: far, identity: otherSite, roots: network.roots }),
  ]);
  assert.equal(codeOf(agent), "ERR_SESSION_PEER_MISMATCH");
  assert.equal(codeOf(connector), "ERR_SESSION_HANDSHAKE");
});

Deno.test("a relay that reflects the session to its own end is refused", async () => {
  for (const role of ["agent", "connector"] as const) {
    const [near, far] = channelPair();
    void echo(far);
    const session = role === "agent"
      ? openSession({ channel: near, identity: alice, roots: network.roots, expectPeer: site.id.uri })
      : acceptSession({
        channel: near,
        identity: site,
        roots: network.roots,
        signal: AbortSignal.timeout(200),
      });
    await assert.rejects(
      session,
      (error: Error & { code?: string }) =>
        error.code === "ERR_SESSION_HANDSHAKE" || error.name === "TimeoutError",
    );
  }
});

Deno.test("a relay that alters any one byte of the handshake fails it", async () => {
  // Length of each direction of an honest handshake, to place the alterations.
  const lengths = await handshakeLengths();
  for (const direction of [0, 1] as const) {
    for (let i = 0; i < 24; i++) {
      const position = Math.floor(lengths[direction] * i / 24);
      const [agent, connector] = await tamperedHandshake({ direction, position });
      const results = [agent, connector];
      assert.ok(
        results.some(({ status }) => status === "rejected"),
        `direction ${direction}, byte ${position}`,
      );
      // Where the last message was hit its sender cannot know yet, but soon does.
      for (const result of results) if (result.status === "fulfilled") await result.value.closed;
    }
  }
});

Deno.test("a relay that replays a recorded session gets nowhere", async () => {
  const recorded: Uint8Array[] = [];
  const [near, middleNear] = channelPair();
  const [middleFar, far] = channelPair();
  void copy(middleNear, middleFar, (chunk) => (recorded.push(chunk.slice()), chunk));
  void copy(middleFar, middleNear, (chunk) => chunk);
  const [agent, connector] = await Promise.all([
    openSession({ channel: near, identity: alice, roots: network.roots, expectPeer: site.id.uri }),
    acceptSession({ channel: far, identity: site, roots: network.roots }),
  ]);
  agent.close();
  await Promise.all([agent.closed, connector.closed]);
  const [replayer, victim] = channelPair();
  for (const chunk of recorded) await replayer.write(chunk);
  await assert.rejects(acceptSession({ channel: victim, identity: site, roots: network.roots }), {
    code: "ERR_SESSION_HANDSHAKE",
  });
});

function codeOf(result: PromiseSettledResult<unknown>): string | undefined {
  return result.status === "rejected" ? result.reason.code : undefined;
}

async function handshakeLengths(): Promise<[toConnector: number, toAgent: number]> {
  const lengths: [number, number] = [0, 0];
  const [agent, connector] = await throughRelay((
    direction,
    chunk,
  ) => (lengths[direction] += chunk.length, chunk));
  assert.ok(agent.status === "fulfilled" && connector.status === "fulfilled");
  const result: [number, number] = [...lengths];
  agent.value.close();
  await Promise.all([agent.value.closed, connector.value.closed]);
  return result;
}

function tamperedHandshake(at: { readonly direction: 0 | 1; readonly position: number }) {
  const seen: [number, number] = [0, 0];
  const change = (direction: 0 | 1, chunk: Uint8Array) => {
    const offset = at.position - seen[direction];
    seen[direction] += chunk.length;
    if (direction !== at.direction || offset < 0 || offset >= chunk.length) return chunk;
    return altered(chunk, offset, chunk[offset]! ^ 0x20);
  };
  // An altered length makes an end wait for bytes that never come.
  return throughRelay(change, AbortSignal.timeout(250));
}

function throughRelay(
  change: (direction: 0 | 1, chunk: Uint8Array) => Uint8Array,
  signal: AbortSignal = new AbortController().signal,
) {
  const [near, middleNear] = channelPair();
  const [middleFar, far] = channelPair();
  void copy(middleNear, middleFar, (chunk) => change(0, chunk));
  void copy(middleFar, middleNear, (chunk) => change(1, chunk));
  return Promise.allSettled([
    openSession({ channel: near, identity: alice, roots: network.roots, expectPeer: site.id.uri, signal }),
    acceptSession({ channel: far, identity: site, roots: network.roots, signal }),
  ]);
}

async function echo(channel: ByteChannel): Promise<void> {
  await copy(channel, channel, (chunk) => chunk);
}

async function copy(
  from: ByteChannel,
  to: ByteChannel,
  change: (chunk: Uint8Array) => Uint8Array,
): Promise<void> {
  try {
    let chunk: Uint8Array | null;
    while ((chunk = await from.read()) !== null) await to.write(change(chunk));
    await to.closeWrite();
  } catch (error) {
    from.abort(error);
    to.abort(error);
  }
}

function altered(bytes: Uint8Array, offset: number, value: number): Uint8Array {
  const copied = bytes.slice();
  copied[offset] = value;
  return copied;
}
