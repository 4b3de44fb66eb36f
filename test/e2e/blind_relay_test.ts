/**
 * A relay is blind: what agents and services say to each other occurs nowhere in its memory, its files, its log or
 * what it sends, while the same search does find it at both ends, and in a relay that was let in on it.
 */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/free_port.ts";
import { LocalClient } from "../support/local_client.ts";
import { type AgentNode, type ConnectorNode, Network, type RelayNode } from "../support/network.ts";
import { findTexts, formsOf, searchMemory } from "../support/process_memory.ts";
import { RecordingUpstream } from "../support/recording_upstream.ts";
import { identityOf, RelayCaller } from "../support/relay_caller.ts";
import { WireRecorder } from "../support/wire_recorder.ts";
import { TcpCapsuleReader, writeTcpCapsuleHeader } from "../../src/wire/capsule/connect_tcp.ts";

/** Times a marker is said in each direction. */
const REPEATS = 400;

for (const carrier of ["quic", "tls"] as const) {
  Deno.test(`carrier ${carrier}: no marker of a sealed flow occurs in the relay's memory, files, log or traffic`, async () => {
    await using site = await openSite(carrier);
    const { relay, agent, connector, upstream, recorders } = site;
    const [up, down] = [newMarker(), newMarker()];
    using client = await LocalClient.connect(agent.forward("web"));
    // Both ends say theirs again and again, the relay's buffers are used many times, and the flow stays open.
    for (let i = 0; i < REPEATS; i++) await client.send(up);
    const [connection] = await eventually(() => upstream.connections.length === 1 && upstream.connections);
    for (let i = 0; i < REPEATS; i++) await connection!.conn.write(new TextEncoder().encode(down));
    await client.readUntil((text) => text.length >= REPEATS * down.length);
    await eventually(() => connection!.bytes.length === REPEATS * up.length);

    const forms = [...formsOf(up), ...formsOf(down)];
    for (const end of [agent, connector]) {
      const { found } = await searchMemory(end.process!.pid, [up, down]);
      assert.deepEqual(
        new Set(found),
        new Set([up, down]),
        `${end.name} has both in its memory, where the search sees them`,
      );
    }
    const memory = await searchMemory(relay.process!.pid, forms);
    assert.deepEqual(memory.found, [], "in the relay's memory");
    assert.ok(memory.bytes > 50 << 20 && memory.unreadable < memory.bytes / 100, JSON.stringify(memory));

    for (const { pieces, size } of recorders) {
      assert.ok(size > 2 * REPEATS * up.length, "the traffic went this way");
      assert.deepEqual(pieces.flatMap((piece) => findTexts(piece, forms)), [], "on the wire");
    }
    client.close();
    const closed = await eventually(async () => (await relay.audit()).find(({ event }) => event === "close"));
    assert.ok(closed.bytesIn! > REPEATS * up.length, "the relay did carry it");
    const written = [relay.lines.join("\n"), ...await readFiles(site.network.folder)];
    assert.deepEqual(
      written.flatMap((text) => forms.filter((form) => text.includes(form))),
      [],
      "in writing",
    );
    // After the flow nothing is left behind either.
    assert.deepEqual((await searchMemory(relay.process!.pid, forms)).found, []);
  });
}

Deno.test("the search is not blind: a relay does hold what an unsealed flow of an optional service says", async () => {
  await using site = await openSite("quic");
  const { relay, network, upstream } = site;
  const [up, down] = [newMarker(), newMarker()];
  await using caller = new RelayCaller(relay, network.root);
  const connection = await caller.admitted(await identityOf(network.issue("agent", "plain")));
  const { status, body } = await connection.flow("web", { form: "capsules" });
  assert.equal(status, 200);
  for (let i = 0; i < REPEATS; i++) await body.write(capsule(up));
  const [plain] = await eventually(() => upstream.connections.length === 1 && upstream.connections);
  for (let i = 0; i < REPEATS; i++) await plain!.conn.write(new TextEncoder().encode(down));
  const reader = new TcpCapsuleReader();
  for (let left = REPEATS * down.length; left > 0;) {
    const bytes = await body.read();
    assert.ok(bytes !== null);
    for (const piece of reader.push(bytes)) left -= piece.length;
  }
  const { found } = await searchMemory(relay.process!.pid, [up, down]);
  assert.ok(found.length > 0, "neither marker is in the relay's memory: the search sees nothing");
  body.abort();
});

/** Text that occurs nowhere else: random letters, long enough that no form of it is an accident. */
function newMarker(): string {
  return `marker.${[...randomBytes(40)].map((byte) => String.fromCharCode(0x61 + byte % 26)).join("")}.`;
}

function capsule(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  const framed = new Uint8Array(16 + bytes.length);
  const start = writeTcpCapsuleHeader(framed, 0, { length: bytes.length, final: false });
  framed.set(bytes, start);
  return framed.subarray(0, start + bytes.length);
}

/** All files below a folder, sockets aside. */
async function readFiles(folder: string): Promise<string[]> {
  const texts: string[] = [];
  for await (const entry of Deno.readDir(folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) texts.push(...await readFiles(path));
    else if (entry.isFile) texts.push(await Deno.readTextFile(path));
  }
  return texts;
}

/** Relay, connector and agent as processes, a recorder on each of the relay's two sides. */
interface Site extends AsyncDisposable {
  readonly network: Network;
  readonly relay: RelayNode;
  readonly agent: AgentNode;
  readonly connector: ConnectorNode;
  readonly upstream: RecordingUpstream;
  readonly recorders: readonly WireRecorder[];
}

async function openSite(carrier: "quic" | "tls"): Promise<Site> {
  const stack = new AsyncDisposableStack();
  const network = stack.use(await Network.create({ services: [{ name: "web", endToEnd: "optional" }] }));
  const upstream = stack.use(new RecordingUpstream({ echoes: false }));
  const separate = true;
  const relay = await network.relay({ separate, config: { log: { level: "trace" } } });
  const [behind, front] = [
    stack.use(new WireRecorder(relay, freePort())),
    stack.use(new WireRecorder(relay, freePort())),
  ];
  const config = { carrier };
  const connector = await network.connector({
    separate,
    relays: [behind],
    services: { web: upstream.url },
    config,
  });
  const agent = await network.agent({ separate, relays: [front], forwards: ["web"], config });
  return {
    network,
    relay,
    agent,
    connector,
    upstream,
    recorders: [behind, front],
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}
