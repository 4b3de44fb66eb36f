/**
 * A relay is blind to datagrams and pings as it is to streams: what agents and services say in them occurs nowhere in its
 * memory, its files, its log or the traffic, while the same search finds it at the connector, and in a relay that carried
 * a flow that was not sealed.
 */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { DATAGRAM_HEADROOM } from "../../src/dataplane/carrier.ts";
import type { DatagramFlow } from "../../src/dataplane/datagram/datagram_flow.ts";
import { udpPath } from "../../src/wire/masque/uri.ts";
import { relayServerName } from "../../src/identity/spiffe_id.ts";
import { DialNode } from "../support/dial_node.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/free_port.ts";
import { Network } from "../support/network.ts";
import { findTexts, formsOf, searchMemory } from "../support/process_memory.ts";
import { identityOf, RelayCaller } from "../support/relay_caller.ts";
import { UdpEcho } from "../support/udp_echo.ts";
import { WireRecorder } from "../support/wire_recorder.ts";

/** Times each marker is said, and comes back. */
const REPEATS = 100;
const NEVER = { signal: new AbortController().signal };

for (const carrier of ["quic", "tls"] as const) {
  Deno.test(`carrier ${carrier}: no marker of a datagram or ping occurs in the relay's memory, files, log or traffic`, async () => {
    await using echo = UdpEcho.start();
    await using network = await Network.create({ services: [{ name: "echo" }] });
    const relay = await network.relay({ separate: true, config: { log: { level: "trace" } } });
    using behind = new WireRecorder(relay, freePort());
    using front = new WireRecorder(relay, freePort());
    const services = { echo: `udp://127.0.0.1:${echo.port}` };
    const connector = await network.connector({
      ...{ services, relays: [behind], separate: true },
      config: { carrier: "quic", log: { level: "trace" } },
    });
    await using agent = await DialNode.open(network, { relays: [front], carrier });
    // One secret in all of them: what is looked for.
    const secret = newSecret();
    const texts = ["small", "large", "ping"].map((what) => `${secret}.${what}.`) as [string, string, string];
    const address = `${secret}.example`;
    const udp = await agent.dialer.connectDatagrams(
      { service: "echo", protocol: "udp", port: 7, address },
      NEVER,
    );
    const ping = await agent.dialer.connectDatagrams({ service: "echo", protocol: "icmp" }, NEVER);
    const [small, large, echoed] = texts;
    await say(udp, small);
    await say(udp, large.repeat(20));
    await say(ping, echoed);

    const forms = formsOf(secret);
    const { found } = await searchMemory(connector.process!.pid, [secret]);
    assert.deepEqual(found, [secret], "the connector has it, where the search sees it");
    const memory = await searchMemory(relay.process!.pid, forms);
    assert.deepEqual(memory.found, [], "in the relay's memory");
    assert.ok(memory.bytes > 50 << 20 && memory.unreadable < memory.bytes / 100, JSON.stringify(memory));
    for (const { pieces, size } of [behind, front]) {
      assert.ok(size > REPEATS * 22 * large.length, "the traffic went this way");
      assert.deepEqual(pieces.flatMap((piece) => findTexts(piece, forms)), [], "on the wire");
    }
    for (const flow of [udp, ping]) flow.close();
    const closed = await eventually(async () => {
      const lines = (await relay.audit()).filter(({ event }) => event === "close");
      return lines.length === 2 && lines;
    });
    assert.ok(closed.some(({ bytesIn }) => bytesIn! > REPEATS * 20 * large.length), "and through it");
    const written = [relay.lines.join("\n"), ...await readFiles(network.folder)];
    assert.deepEqual(written.flatMap((text) => findTexts(new TextEncoder().encode(text), forms)), []);
    assert.deepEqual((await searchMemory(relay.process!.pid, forms)).found, [], "afterwards");
  });
}

Deno.test("the search is not blind: a relay does hold the datagrams of a flow that is not sealed", async () => {
  await using echo = UdpEcho.start();
  await using network = await Network.create({ services: [{ name: "echo", endToEnd: "optional" }] });
  const relay = await network.relay({ separate: true });
  await network.connector({ services: { echo: `udp://127.0.0.1:${echo.port}` }, relays: [relay] });
  await using caller = new RelayCaller(relay, network.root);
  const { carrier } = await caller.admitted(await identityOf(network.issue("agent", "plain")));
  const { head, datagrams, body } = await carrier.request({
    method: "CONNECT",
    protocol: "connect-udp",
    scheme: "https",
    authority: relayServerName("relay-1"),
    path: udpPath({ host: "echo", port: 7 }),
    headers: [],
  }, NEVER);
  assert.equal(head.status, 200);
  const marker = newSecret();
  const payload = new TextEncoder().encode(marker);
  const buffer = new Uint8Array(DATAGRAM_HEADROOM + 1 + payload.length);
  buffer.set(payload, DATAGRAM_HEADROOM + 1);
  let answers = 0;
  datagrams.receive(() => void answers++);
  await eventually(() => {
    buffer[DATAGRAM_HEADROOM] = 0;
    datagrams.send(buffer, DATAGRAM_HEADROOM, buffer.length);
    return answers >= REPEATS;
  }, { interval: 2 });
  const { found } = await searchMemory(relay.process!.pid, [marker]);
  assert.deepEqual(found, [marker], "the marker is not in the relay's memory: the search sees nothing");
  body.abort();
});

/** Says a text again and again, until it has come back often enough. */
async function say(flow: DatagramFlow, text: string, times = REPEATS): Promise<void> {
  // Four bytes stand for the identifier and number that a ping has.
  const payload = new TextEncoder().encode(`ping${text}`);
  let back = 0;
  flow.receive((echoed) => {
    // The last ones of what was said before may still come.
    if (echoed.length === payload.length) back++;
  });
  await eventually(() => {
    flow.send(payload, 0, payload.length);
    return back >= times;
  }, { interval: 2 });
}

/** Text that occurs nowhere else: random letters, enough that no form of it is an accident. */
function newSecret(): string {
  return [...randomBytes(40)].map((byte) => String.fromCharCode(0x61 + byte % 26)).join("");
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
