/**
 * What strangers and members can make a relay hold, over real QUIC and TLS: every limit of the config bites, slow
 * peers hold nobody up, and garbage neither crashes the relay nor stays in its memory.
 */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { type Identity, loadIdentity } from "../../src/identity/identity_file.ts";
import { encodeMessage } from "../../src/wire/control/framing.ts";
import { VIEW_PATH } from "../../src/wire/masque/uri.ts";
import { eventually } from "../support/eventually.ts";
import { Network, type RelayNode } from "../support/network.ts";
import { captureInitials, halfOpenHandshakes } from "../support/quic_initials.ts";
import { type CallerConnection, RelayCaller } from "../support/relay_caller.ts";
import { UdpSocket } from "../support/udp_socket.ts";

const MIB = 1024 * 1024;

Deno.test("maxUnauthenticatedConnections: strangers are turned away, members stay and come in again later", async () => {
  await using door = await openDoor({ maxUnauthenticatedConnections: 3, unauthenticatedTimeout: "2s" });
  const member = await door.caller.admitted(door.alice);
  const strangers = await Promise.all([1, 2, 3].map(() => door.caller.dial()));
  await assert.rejects(door.caller.dial(), "a fourth stranger");
  assert.equal((await member.flow("web")).status, 503, "the member does not notice");
  await Promise.all(strangers.map(({ carrier }) => carrier.closed));
  await door.caller.admitted(door.alice);
});

Deno.test("maxUnauthenticatedConnections counts TCP connections that never say hello, and lets go of them", async () => {
  await using door = await openDoor(
    { maxUnauthenticatedConnections: 4, unauthenticatedTimeout: "500ms" },
    { separate: true },
  );
  const before = descriptors(door.relay);
  // The relay ends them all, most at once and the first four when their time is over: a reset may even overtake the
  // connect's own result. Not even a descriptor stays behind.
  await Promise.all(Array.from({ length: 20 }, async () => {
    try {
      using connection = await Deno.connect({ hostname: "127.0.0.1", port: door.relay.port });
      await connection.read(new Uint8Array(1));
    } catch (error) {
      if (!(error instanceof Deno.errors.ConnectionReset)) throw error;
    }
  }));
  await eventually(() => descriptors(door.relay) <= before);
  await eventually(() => admittedByTls(door), { timeout: 8_000 });
});

Deno.test("half-open QUIC handshakes hold a place no longer than unauthenticatedTimeout", async () => {
  await using door = await openDoor({ maxUnauthenticatedConnections: 4, unauthenticatedTimeout: "1s" });
  await halfOpenHandshakes(4, { port: door.relay.port });
  await assert.rejects(door.caller.dial(), "all places are taken");
  // The peer's idle time-out would say ten minutes.
  await eventually(() => door.caller.admitted(door.alice).catch(() => undefined), { timeout: 8_000 });
});

Deno.test("maxConnections: full is full, for members too, until somebody goes", async () => {
  await using door = await openDoor({ maxConnections: 3 });
  const [first] = await Promise.all([1, 2, 3].map(() => door.caller.admitted(door.alice)));
  await assert.rejects(door.caller.dial());
  await first!.carrier.close(0x100, "");
  await eventually(() => door.caller.admitted(door.alice).catch(() => undefined));
});

Deno.test("maxConnectionsPerIdentity: one identity gets 429, another comes in", async () => {
  await using door = await openDoor({ maxConnectionsPerIdentity: 2 });
  await door.caller.admitted(door.alice);
  await door.caller.admitted(door.alice);
  for (const carrier of ["quic", "tls"] as const) {
    const third = await door.caller.dial(carrier);
    const answer = await third.view(await door.caller.proof(door.alice));
    assert.equal(answer.status, 429, carrier);
    assert.match(answer.headers.get("proxy-status") ?? "", /error=connection_limit_reached/);
  }
  await door.caller.admitted(await loadIdentity(await door.network.issue("agent", "bob")));
});

Deno.test("maxFlowsPerIdentity: one flow more is 429, and an ended flow makes room", async () => {
  await using door = await openDoor({ maxFlowsPerIdentity: 2 });
  using upstream = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await door.network.connector({
    relays: [door.relay],
    services: { web: `tcp://127.0.0.1:${upstream.addr.port}` },
  });
  const alice = await door.caller.admitted(door.alice);
  const [first, second] = [await alice.flow("web"), await alice.flow("web")];
  assert.deepEqual([first.status, second.status], [200, 200]);
  // Over another connection as well: the limit is the identity's.
  for (const connection of [alice, await door.caller.admitted(door.alice)]) {
    assert.equal((await connection.flow("web")).status, 429);
  }
  const denied = await eventually(async () =>
    (await door.relay.audit()).find(({ outcome }) => outcome === "429")
  );
  assert.equal(denied.reason, "flows_per_identity");
  first.body.abort();
  const freed = await eventually(async () => {
    const answer = await alice.flow("web");
    return answer.status === 200 && answer;
  });
  for (const { body } of [second, freed]) body.abort();
});

for (const carrier of ["quic", "tls"] as const) {
  Deno.test(`[RFC9114-4.2.2] ${carrier}: a request whose header is over maxHeaderBytes gets 431 or is cut off`, async () => {
    await using door = await openDoor({ maxHeaderBytes: 2_048 });
    const withField = async (size: number) => {
      const connection = await door.caller.dial(carrier);
      const headers: [string, string][] = [["x-padding", "\u007e".repeat(size)]];
      const request = { method: "GET", scheme: "https", path: VIEW_PATH, headers };
      return await connection.request(request, { end: true }).then(({ status }) => status, () => "cut off");
    };
    assert.equal(await withField(1_000), 401, "small enough, but no proof");
    assert.equal(await withField(2_048), 431);
    assert.ok([431, "cut off"].includes(await withField(200_000)), "not even read to its end");
    await door.caller.admitted(door.alice);
  });
}

Deno.test("slow strangers, drop by drop on both carriers, are cut off in time and hold nobody up", async () => {
  await using door = await openDoor({ unauthenticatedTimeout: "1s" });
  const dripping: Promise<unknown>[] = [];
  for (let i = 0; i < 4; i++) {
    const { carrier } = await door.caller.dial();
    dripping.push(carrier.closed);
    const tls = await door.caller.startTls(
      await Deno.connect({ hostname: "127.0.0.1", port: door.relay.port }),
    );
    dripping.push(drip(tls));
    dripping.push(drip(await Deno.connect({ hostname: "127.0.0.1", port: door.relay.port })));
  }
  const started = performance.now();
  await door.caller.admitted(door.alice);
  assert.ok(performance.now() - started < 900, "a member comes in while the others drip");
  await Promise.all(dripping);
});

Deno.test("a member that stops in the middle of a message, or sends nonsense, harms only itself", async () => {
  await using door = await openDoor();
  using upstream = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const half = encodeMessage({ type: "bind", services: [{ name: "web", protocol: "tcp", healthy: true }] });
  const nonsense = [
    encodeMessage({ type: "bind", services: "all" }),
    encodeMessage({ type: "bind", services: [{ name: "../../etc", protocol: "tcp", healthy: true }] }),
    // A length of 2^62 - 1 bytes.
    new Uint8Array(16).fill(0xff),
  ];
  const stalled = await door.connectorSession("stalled");
  await (await stalled.openStream()).write(half.subarray(0, half.length - 1));
  for (const [index, message] of nonsense.entries()) {
    const session = await door.connectorSession(`nonsense-${index}`);
    await (await session.openStream()).write(message);
    await session.closed;
  }
  await door.network.connector({
    relays: [door.relay],
    services: { web: `tcp://127.0.0.1:${upstream.addr.port}` },
  });
  const flow = await (await door.caller.admitted(door.alice)).flow("web");
  assert.equal(flow.status, 200);
  flow.body.abort();
});

Deno.test("a connector cannot make the relay remember services without end, or queue answers it does not read", async () => {
  await using door = await openDoor({ maxServicesPerConnector: 8 }, { separate: true });
  const session = await door.connectorSession("greedy");
  const control = await session.openStream();
  const before = door.relay.process!.usage().rssBytes;
  // 300,000 names that nobody ever reads an answer for: some 60 MB if the relay kept names and answers.
  let sent = 0;
  const flood = (async () => {
    for (; sent < 300_000; sent += 100) {
      const services = Array.from({ length: 100 }, (_, i) => ({
        name: `service-${"x".repeat(80)}-${sent + i}`,
        protocol: "tcp",
        healthy: true,
      }));
      await control.write(encodeMessage({ type: "bind", services }));
    }
  })();
  // Either everything was taken, or the relay takes no more: then it goes on serving, at the same size.
  await Promise.race([flood, stalls(() => sent)]);
  await door.caller.admitted(door.alice);
  const grown = door.relay.process!.usage().rssBytes - before;
  assert.ok(grown < 40 * MIB, `the relay grew by ${Math.round(grown / MIB)} MiB after ${sent} names`);
  await session.close(0, "");
  await flood.catch(() => {});
});

Deno.test("a connection gets one view stream: each further one would cost a signature at every change", async () => {
  await using door = await openDoor();
  const alice = await door.caller.dial();
  const proof = await door.caller.proof(door.alice);
  const answers = await Promise.all([alice.view(proof), alice.view(proof), alice.view()]);
  assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 429, 429]);
  answers.find(({ status }) => status === 200)!.body.abort();
  assert.equal((await alice.view()).status, 429, "letting go of it does not give a new one");
});

Deno.test("garbage on both ports and 1,000 broken-off handshakes: the relay serves on, at its size", async () => {
  await using door = await openDoor(
    { unauthenticatedTimeout: "1s", maxUnauthenticatedConnections: 128 },
    { separate: true },
  );
  await door.caller.admitted(door.alice);
  const attack = async () => {
    const initials = await captureInitials(4);
    await throwDatagrams(door.relay.port, initials);
    await breakOffHandshakes(door.relay.port, 1_000);
    // Served at once, or as soon as the broken-off ones no longer count.
    await eventually(() => door.caller.admitted(door.alice).catch(() => undefined), { timeout: 8_000 });
    await eventually(() => admittedByTls(door), { timeout: 8_000 });
  };
  // The first round fills pools and caches, which stay; the second must find room in them.
  await attack();
  const settled = door.relay.process!.usage();
  const files = descriptors(door.relay);
  await attack();
  const grown = door.relay.process!.usage().rssBytes - settled.rssBytes;
  assert.ok(grown < 30 * MIB, `the relay grew by ${Math.round(grown / MIB)} MiB in the second round`);
  await eventually(() => descriptors(door.relay) <= files + 2);
});

/** A relay, somebody who calls it, and Alice. */
interface Door extends AsyncDisposable {
  readonly network: Network;
  readonly relay: RelayNode;
  readonly caller: RelayCaller;
  readonly alice: Identity;
  /** The session of a connector of that name. */
  connectorSession(name: string): ReturnType<CallerConnection["connectorSession"]>;
}

async function openDoor(
  limits: Readonly<Record<string, unknown>> = {},
  options: { readonly separate?: boolean } = {},
): Promise<Door> {
  const stack = new AsyncDisposableStack();
  const network = stack.use(await Network.create());
  const relay = await network.relay({ config: { limits, log: { level: "info" } }, ...options });
  const caller = stack.use(new RelayCaller(relay, network.root));
  return {
    network,
    relay,
    caller,
    alice: await loadIdentity(await network.issue("agent", "alice")),
    connectorSession: async (name) => {
      const identity = await loadIdentity(await network.issue("connector", name));
      return await (await caller.admitted(identity)).connectorSession(crypto.randomUUID());
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** Whether Alice gets in over TLS at this moment. */
async function admittedByTls({ caller, alice }: Door): Promise<boolean> {
  const proof = await caller.proof(alice);
  const { status } = await (await caller.dial("tls")).view(proof);
  return status === 200;
}

function descriptors(relay: RelayNode): number {
  return [...Deno.readDirSync(`/proc/${relay.process!.pid}/fd`)].length;
}

/** Sends a byte whenever the last one was taken and the peer said nothing, until the peer has had enough. */
async function drip(connection: Deno.Conn): Promise<void> {
  try {
    // The first bytes of a HEADERS frame that promises more; as a TLS record it is no better.
    await connection.write(Uint8Array.of(0x01, 0x40, 0xff));
    while (await connection.read(new Uint8Array(64)) !== null);
  } catch {
    // Cut off.
  } finally {
    connection.close();
  }
}

/** Resolves when `count` has not changed for a while, seen a hundred times. */
async function stalls(count: () => number): Promise<void> {
  let last = -1;
  let same = 0;
  await eventually(() => {
    same = count() === last ? same + 1 : 0;
    last = count();
    return same >= 100;
  }, { timeout: 20_000 });
}

/** Random datagrams, and real Initials that were cut short, altered, or of another version. */
async function throwDatagrams(port: number, initials: readonly Uint8Array[]): Promise<void> {
  using socket = new UdpSocket();
  const send = (bytes: Uint8Array) => socket.send(bytes, { hostname: "127.0.0.1", port });
  for (let i = 0; i < 500; i++) await send(new Uint8Array(randomBytes(1 + (i * 37) % 1_400)));
  for (const initial of initials) {
    for (let length = 1; length < initial.length; length += 13) await send(initial.subarray(0, length));
    for (let offset = 0; offset < initial.length; offset += 29) {
      const altered = initial.slice();
      altered[offset]! ^= 1 << offset % 8;
      await send(altered);
    }
  }
}

/** TCP connections that say nothing, nonsense or half a ClientHello, and then reset or end. */
async function breakOffHandshakes(port: number, count: number): Promise<void> {
  const hello = Uint8Array.of(0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03);
  const openings = [
    new Uint8Array(),
    hello,
    new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n"),
    randomBytes(300),
  ];
  let next = 0;
  const worker = async () => {
    for (let i = next++; i < count; i = next++) {
      try {
        using connection = await Deno.connect({ hostname: "127.0.0.1", port });
        await connection.write(new Uint8Array(openings[i % openings.length]!));
        if (i % 16 === 0) await connection.read(new Uint8Array(16));
      } catch (error) {
        // The relay was faster with its reset, perhaps even than the connect's own result.
        if (error instanceof Deno.errors.ConnectionRefused) throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: 16 }, worker));
}
