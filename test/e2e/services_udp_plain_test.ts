/**
 * Clients that know nothing but RFC 9298, at services that let them; and who tries to reach into their flows.
 */

import assert from "node:assert/strict";
import { concat } from "../../src/base/bytes.ts";
import { DATAGRAM_HEADROOM, type DatagramPort, type Exchange } from "../../src/dataplane/carrier.ts";
import { relayServerName } from "../../src/identity/spiffe_id.ts";
import { PROTOCOL_HEADER, SEALED_HEADER } from "../../src/modes/shared/relay_protocol.ts";
import { CapsuleReader, encodeCapsule } from "../../src/wire/capsule/capsule.ts";
import { encodeMessage } from "../../src/wire/control/framing.ts";
import { DATAGRAM_CAPSULE } from "../../src/wire/http_datagram.ts";
import { udpPath } from "../../src/wire/masque/uri.ts";
import { encodeVarint } from "../../src/wire/varint.ts";
import { eventually } from "../support/eventually.ts";
import { Network, type RelayNode } from "../support/network.ts";
import { type CallerConnection, identityOf, RelayCaller } from "../support/relay_caller.ts";
import { UdpEcho } from "../support/udp_echo.ts";

Deno.test("a plain client's datagrams reach the service and come back, large ones in capsules [RFC9298-3.5]", async () => {
  await using site = await openSite();
  const flow = await ask(await site.admitted());
  assert.equal(flow.head.status, 200);
  assert.equal(flow.head.headers.get("capsule-protocol"), "?1");
  const got = collect(flow.datagrams);
  await eventually(() => flow.datagrams.maxSize > 1_000);
  // Of another context, and then our own: only that comes back.
  send(flow.datagrams, Uint8Array.of(2, 9, 9));
  send(flow.datagrams, Uint8Array.of(0, 1, 2, 3));
  await eventually(() => got.length === 1);
  assert.deepEqual(got, [[0, 1, 2, 3]]);
  const large = new Uint8Array(20_000).map((_, i) => i);
  await flow.body.write(capsule(9, [1]));
  await flow.body.write(capsule(DATAGRAM_CAPSULE, [2, 7]));
  await flow.body.write(capsule(DATAGRAM_CAPSULE, [0, ...large]));
  assert.deepEqual(await nextPayload(flow), large);
  await flow.body.closeWrite();
  assert.equal(await flow.body.read(), null, "the end of the stream ends the flow");
  const close = await eventually(async () =>
    (await site.relay.audit()).find(({ event }) => event === "close")
  );
  assert.deepEqual([close.outcome, close.packetsIn, close.packetsOut], ["closed", 1, 1]);
});

Deno.test("over TLS, which has no datagrams, everything of a plain client crosses in capsules [RFC9297-3.5]", async () => {
  await using site = await openSite();
  const connection = await site.caller.dial("tls");
  const flow = await ask(connection, { proof: await site.proof() });
  assert.equal(flow.head.status, 200);
  for (const payload of [[0, 4, 5, 6], [0]]) {
    await flow.body.write(capsule(DATAGRAM_CAPSULE, payload));
    assert.deepEqual([...await nextPayload(flow)], payload.slice(1));
  }
  flow.body.abort();
});

Deno.test("a capsule longer than any UDP payload ends the flow [RFC9298-5]", async () => {
  await using site = await openSite();
  const flow = await ask(await site.admitted());
  await flow.body.write(capsule(DATAGRAM_CAPSULE, new Array(65_540).fill(0)));
  assert.equal(await flow.body.read().catch(() => null), null, "the client is told");
  flow.body.abort();
  await eventually(async () => (await site.relay.audit()).some(({ event }) => event === "close"));
});

Deno.test("plain flows are refused where the service is sealed only, and what is not understood is too", async () => {
  await using site = await openSite();
  const connection = await site.admitted();
  const status = async (...args: Parameters<typeof ask>) => (await ask(...args)).head.status;
  assert.equal(await status(connection, { service: "sealed" }), 403);
  assert.equal(await status(connection, { service: "nobody" }), 403);
  assert.equal(await status(connection, { service: "192.0.2.1" }), 403);
  const headers: [string, string][] = [[SEALED_HEADER, "?1"], [PROTOCOL_HEADER, "sctp"]];
  assert.equal(await status(connection, { headers }), 501);
  assert.equal(await status(connection, { path: "/.well-known/masque/udp/echo/0/" }), 404);
  assert.equal(await status(connection, { path: "/.well-known/masque/tcp/echo/7/" }), 404);
  assert.equal(await status(await site.caller.dial(), {}), 401);
});

Deno.test("nobody else at the relay reaches into a flow: neither another connector nor another caller", async () => {
  await using site = await openSite();
  const flow = await ask(await site.admitted());
  const got = collect(flow.datagrams);
  await eventually(() => flow.datagrams.maxSize > 1_000);

  // A connector with a right to a service of its own sends to every flow id there may be.
  const mallory = await site.caller.admitted(await identityOf(site.network.issue("connector", "mallory")));
  const session = await mallory.connectorSession("12345678-6666");
  const control = await session.openStream();
  await control.write(
    encodeMessage({ type: "bind", services: [{ name: "bait", protocol: "tcp", healthy: true }] }),
  );
  // A caller sends on its own connection under every request's number, which the relay knows by connection only.
  const stranger = await ask(await site.admitted("bob"), { service: "echo" });
  await eventually(() => session.datagrams.maxSize > 1_000 && stranger.datagrams.maxSize > 1_000);
  for (let id = 0; id < 200; id++) {
    while (!send(session.datagrams, concat([encodeVarint(id), Uint8Array.of(66)]))) {
      await session.datagrams.writable();
    }
    send(stranger.datagrams, Uint8Array.of(0, 66));
  }
  const strangerGot = collect(stranger.datagrams);
  send(stranger.datagrams, Uint8Array.of(0, 67));
  await eventually(() => strangerGot.some(([, byte]) => byte === 67));
  send(flow.datagrams, Uint8Array.of(0, 1));
  await eventually(() => got.length > 0);
  assert.deepEqual(got, [[0, 1]]);
});

interface Site extends AsyncDisposable {
  readonly network: Network;
  readonly relay: RelayNode;
  readonly caller: RelayCaller;
  admitted(name?: string): Promise<CallerConnection>;
  proof(): Promise<string>;
}

async function openSite(): Promise<Site> {
  await using stack = new AsyncDisposableStack();
  const echo = stack.use(UdpEcho.start());
  const network = stack.use(
    await Network.create({
      services: [{ name: "echo", endToEnd: "optional" }, { name: "bait" }, { name: "sealed" }],
    }),
  );
  const relay = await network.relay();
  await network.connector({
    services: { echo: `udp://127.0.0.1:${echo.port}`, sealed: `udp://127.0.0.1:${echo.port}` },
    relays: [relay],
  });
  const caller = stack.use(new RelayCaller(relay, network.root));
  const identity = (name: string) => identityOf(network.issue("agent", name));
  const undo = stack.move();
  return {
    network,
    relay,
    caller,
    admitted: async (name = "alice") => await caller.admitted(await identity(name)),
    proof: async () => await caller.proof(await identity("alice")),
    [Symbol.asyncDispose]: () => undo.disposeAsync(),
  };
}

async function ask(
  { carrier }: CallerConnection,
  options: {
    readonly service?: string;
    readonly path?: string;
    readonly proof?: string;
    readonly headers?: readonly (readonly [string, string])[];
  } = {},
): Promise<Exchange> {
  const { service = "echo", path = udpPath({ host: service, port: 7 }), proof, headers = [] } = options;
  return await carrier.request({
    method: "CONNECT",
    protocol: "connect-udp",
    scheme: "https",
    authority: relayServerName("relay-1"),
    path,
    headers: [...headers, ...(proof === undefined ? [] : [["authorization", `Bearer ${proof}`] as const])],
  }, { signal: AbortSignal.timeout(15_000) });
}

function capsule(type: number, value: readonly number[]): Uint8Array {
  return encodeCapsule(type, Uint8Array.from(value));
}

/** The payload of the next capsule, which must be one of context 0. */
async function nextPayload({ body }: Exchange): Promise<Uint8Array> {
  const reader = new CapsuleReader({ maxLength: 70_000 });
  for (;;) {
    const bytes = await body.read();
    assert.ok(bytes !== null, "the stream ended");
    reader.push(bytes);
    const next = reader.next();
    if (next === undefined) continue;
    assert.deepEqual([next.type, next.value[0]], [DATAGRAM_CAPSULE, 0]);
    return next.value.slice(1);
  }
}

function collect(port: DatagramPort): number[][] {
  const got: number[][] = [];
  port.receive((payload) => void got.push([...payload]));
  return got;
}

function send(port: DatagramPort, payload: Uint8Array): boolean {
  const buffer = new Uint8Array(DATAGRAM_HEADROOM + payload.length);
  buffer.set(payload, DATAGRAM_HEADROOM);
  return port.send(buffer, DATAGRAM_HEADROOM, buffer.length);
}
