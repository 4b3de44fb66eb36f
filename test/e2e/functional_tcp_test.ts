/** What TCP says beside bytes, end to end on real sockets: half-close, reset, refusal and back-pressure. */

import assert from "node:assert/strict";
import { utf8, utf8Decode } from "../../src/base/bytes.ts";
import { resetConnection } from "../../src/io/tcp/reset_socket.ts";
import { readExactly, readToEnd, writeAll } from "../modes/agent/local_service.ts";
import { eventually } from "../support/eventually.ts";
import { type AgentNode, Network } from "../support/network.ts";
import type { ManagedProcess } from "../support/processes.ts";

const MIB = 1024 * 1024;

for (const carrier of ["quic", "tls"]) {
  Deno.test(`carrier ${carrier}: half-close, reset and refusal reach the far socket as what they are`, async (t) => {
    await using network = await Network.create();
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const relay = await network.relay();
    await network.connector({ services: services(listener), relays: [relay], config: { carrier } });
    const agent = await network.agent({ forwards: ["web"], relays: [relay], config: { carrier } });
    const open = () => openFlow(agent, listener);

    await t.step("the client ends its direction; the server sees the end and still answers", async () => {
      const { client, server } = await open();
      await writeAll(client, utf8("question"));
      await client.closeWrite();
      assert.equal(utf8Decode(await readToEnd(server)), "question");
      await writeAll(server, utf8("answer"));
      server.close();
      assert.equal(utf8Decode(await readToEnd(client)), "answer");
      client.close();
    });

    await t.step("the server ends its direction; the client sees the end and still sends", async () => {
      const { client, server } = await open();
      await writeAll(server, utf8("greeting"));
      await server.closeWrite();
      assert.equal(utf8Decode(await readToEnd(client)), "greeting");
      await writeAll(client, utf8("afterwards"));
      client.close();
      assert.equal(utf8Decode(await readToEnd(server)), "afterwards");
      server.close();
    });

    await t.step("the server resets; the client gets ECONNRESET", async () => {
      const { client, server } = await open();
      reset(server);
      await assertReset(client);
    });

    await t.step("the client resets; the server gets ECONNRESET", async () => {
      const { client, server } = await open();
      reset(client);
      await assertReset(server);
    });

    await t.step("a reset after half-close is a reset", async () => {
      const { client, server } = await open();
      await client.closeWrite();
      assert.equal(await server.read(new Uint8Array(1)), null);
      reset(server);
      await assertReset(client);
    });

    await t.step("a megabyte right before the end arrives whole", async () => {
      const { client, server } = await open();
      const bytes = new Uint8Array(MIB).fill(7);
      const sending = writeAll(server, bytes).then(() => server.close());
      assert.deepEqual(await readExactly(client, bytes.length), bytes);
      await sending;
      assert.equal(await client.read(new Uint8Array(1)), null);
      client.close();
    });

    await t.step("nobody listens behind the connector: the client gets ECONNRESET", async () => {
      listener.close();
      const client = await Deno.connect({ hostname: "127.0.0.1", port: agent.forward("web") });
      await assertReset(client);
    });
  });

  Deno.test(`carrier ${carrier}: a side that does not read stalls the sender and fills no memory`, async (t) => {
    await using network = await Network.create();
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const relay = await network.relay({ separate: true });
    const connector = await network.connector({
      services: services(listener),
      relays: [relay],
      config: { carrier },
      separate: true,
    });
    const agent = await network.agent({
      forwards: ["web"],
      relays: [relay],
      config: { carrier },
      separate: true,
    });
    const nodes = [relay, connector, agent].map((node) => node.process!);
    for (const direction of ["to the service", "to the client"]) {
      await t.step(direction, async () => {
        const { client, server } = await openFlow(agent, listener);
        const [from, to] = direction === "to the service" ? [client, server] : [server, client];
        await assertBackPressure(from, to, nodes);
      });
    }
  });
}

/** Bytes a sender tries to get rid of. */
const OFFERED = 96 * MIB;
/** Kernel buffers of four sockets and three hops' flow windows: what may be on the way while nobody reads. */
const MAX_UNDERWAY = 48 * MIB;
/** What a node's memory may grow by for one stalled flow, garbage included. */
const MAX_GROWTH = 48 * MIB;

async function assertBackPressure(
  from: Deno.TcpConn,
  to: Deno.TcpConn,
  nodes: readonly ManagedProcess[],
): Promise<void> {
  const before = nodes.map((node) => node.usage().rssBytes);
  let sent = 0;
  const chunk = new Uint8Array(MIB).fill(1);
  const sending = (async () => {
    while (sent < OFFERED) sent += await from.write(chunk);
    await from.closeWrite();
  })();
  const stalledAt = await untilStill(() => sent);
  assert.ok(stalledAt < MAX_UNDERWAY, `the sender got rid of ${stalledAt} bytes that nobody read`);
  nodes.forEach((node, index) => {
    const growth = node.usage().rssBytes - before[index]!;
    assert.ok(growth < MAX_GROWTH, `${node.name} grew by ${growth} bytes`);
  });
  let received = 0;
  const buffer = new Uint8Array(MIB);
  for (let count = await to.read(buffer); count !== null; count = await to.read(buffer)) received += count;
  await sending;
  assert.equal(received, sent);
  from.close();
  to.close();
}

/** Resolves with the value of `probe` once it has stayed the same, and not zero, for a second. */
function untilStill(probe: () => number): Promise<number> {
  let last = 0;
  let since = performance.now();
  return eventually(() => {
    const value = probe();
    if (value !== last) since = performance.now();
    last = value;
    return value > 0 && performance.now() - since > 1_000 && value;
  }, { timeout: 30_000 });
}

function services(listener: Deno.TcpListener): Record<string, string> {
  return { web: `tcp://127.0.0.1:${listener.addr.port}` };
}

/** Opens a flow and returns the sockets at its two ends. */
async function openFlow(
  agent: AgentNode,
  listener: Deno.TcpListener,
): Promise<{ client: Deno.TcpConn; server: Deno.TcpConn }> {
  const client = await Deno.connect({ hostname: "127.0.0.1", port: agent.forward("web") });
  return { client, server: await listener.accept() };
}

function reset(conn: Deno.TcpConn): void {
  assert.ok(resetConnection(conn));
  conn.close();
}

/** The peer of `conn` reset it; a clean end does not count. */
async function assertReset(conn: Deno.TcpConn): Promise<void> {
  await assert.rejects(conn.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
  conn.close();
}
