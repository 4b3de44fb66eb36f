import assert from "node:assert/strict";
import { utf8, utf8Decode } from "../../../src/base/bytes.ts";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { dialUpstream } from "../../../src/io/tcp/dial.ts";
import { AutoForward } from "../../../src/modes/agent/auto_forward.ts";
import type { FlowTarget } from "../../../src/modes/agent/local_flow.ts";
import { freePort } from "../../support/free_port.ts";
import { UdpSocket } from "../../support/udp_socket.ts";
import { catalogued } from "./catalogued.ts";
import { EchoNetwork } from "./datagram_upstream.ts";

/** Auto-forward whose TCP flows lead to one upstream, and whose UDP flows answer what they are sent. */
function makeGround() {
  const upstream = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const network = new EchoNetwork();
  const targets: FlowTarget[] = [];
  const forward = new AutoForward({
    connect: (target) => {
      targets.push(target);
      return dialUpstream({ kind: "tcp", hostname: "127.0.0.1", port: upstream.addr.port });
    },
    connectDatagrams: network.connect,
    logger: SILENT_LOGGER,
  });
  return {
    upstream,
    network,
    targets,
    forward,
    [Symbol.asyncDispose]: async () => {
      await forward.close();
      upstream.close();
    },
  };
}

function ports(...ports: number[]) {
  return ports.map((port) => ({ low: port, high: port }));
}

Deno.test("TCP and UDP of a service are at its loopback address, at its own ports", async () => {
  await using ground = makeGround();
  const port = freePort();
  await ground.forward.update([catalogued("web", { ports: ports(port), protocols: ["tcp", "udp"] })]);
  const { address, ports: local, notes } = ground.forward.places().get("web")!;
  assert.match(address, /^127\.1\d\d\.0\.77$/);
  assert.deepEqual(local, [
    { protocol: "tcp", port, local: port },
    { protocol: "udp", port, local: port },
  ]);
  assert.deepEqual(notes, []);

  const client = await Deno.connect({ hostname: address, port });
  const server = await ground.upstream.accept();
  await client.write(utf8("ping"));
  const buffer = new Uint8Array(4);
  await server.read(buffer);
  assert.equal(utf8Decode(buffer), "ping");
  client.close();
  server.close();
  assert.deepEqual(ground.targets, [{ service: "web", port }]);

  using one = new UdpSocket();
  using other = new UdpSocket();
  for (const socket of [one, other, one]) {
    await socket.send(utf8("hello"), { hostname: address, port });
    assert.equal(utf8Decode(await socket.receive()), "web:hello");
  }
  assert.equal(ground.network.flows.length, 2);
  assert.deepEqual(ground.network.flows[0]!.target, { service: "web", port, protocol: "udp" });
});

Deno.test("a service that is gone takes its listeners and flows with it; the others' flows go on", async () => {
  await using ground = makeGround();
  const [a, b] = [freePort(), freePort()];
  const stays = catalogued("stays", { index: 20, ports: ports(a) });
  const goes = catalogued("goes", { index: 21, ports: ports(b), protocols: ["tcp", "udp"] });
  await ground.forward.update([stays, goes]);
  const places = ground.forward.places();
  const kept = await Deno.connect({ hostname: places.get("stays")!.address, port: a });
  const keptServer = await ground.upstream.accept();
  const ended = await Deno.connect({ hostname: places.get("goes")!.address, port: b });
  const endedServer = await ground.upstream.accept();
  using socket = new UdpSocket();
  await socket.send(utf8("x"), { hostname: places.get("goes")!.address, port: b });
  await socket.receive();

  // A port that comes beside it does not end the flows of the first.
  await ground.forward.update([{ ...stays, ports: ports(a, freePort()) }]);
  await assert.rejects(ended.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
  ended.close();
  endedServer.close();
  assert.equal(ground.network.flows[0]!.isOpen, false);
  await assert.rejects(
    Deno.connect({ hostname: places.get("goes")!.address, port: b }),
    Deno.errors.ConnectionRefused,
  );
  await kept.write(utf8("x"));
  assert.equal(await keptServer.read(new Uint8Array(1)), 1);
  kept.close();
  keptServer.close();
  assert.deepEqual([...ground.forward.places().keys()], ["stays"]);
});

Deno.test("another service at the same address and port takes them over", async () => {
  await using ground = makeGround();
  const port = freePort();
  const parts = { ports: ports(port), protocols: ["tcp", "udp"] } as const;
  for (const name of ["old", "new"]) {
    // Not awaited: changes may come faster than sockets close.
    void ground.forward.update([catalogued("old", parts)]);
    await ground.forward.update([catalogued(name, parts)]);
  }
  const { address, notes } = ground.forward.places().get("new")!;
  assert.deepEqual(notes, []);
  using socket = new UdpSocket();
  await socket.send(utf8("x"), { hostname: address, port });
  assert.equal(utf8Decode(await socket.receive()), "new:x");
});

Deno.test("a port that is taken is 10,000 higher, and said to be", async () => {
  await using ground = makeGround();
  using taken = Deno.listen({ hostname: "0.0.0.0", port: lowFreePort() });
  const { port } = taken.addr;
  await ground.forward.update([catalogued("web", { ports: ports(port) })]);
  const { ports: local, notes } = ground.forward.places().get("web")!;
  assert.deepEqual(local, [{ protocol: "tcp", port, local: port + 10_000 }]);
  assert.deepEqual(notes, [`tcp ${port} is at ${port + 10_000} here`]);
});

Deno.test("two agents on one machine do not take each other's addresses", async () => {
  await using first = makeGround();
  await using second = makeGround();
  const service = catalogued("web", { ports: ports(freePort()) });
  await first.forward.update([service]);
  await second.forward.update([service]);
  const addresses = [first, second].map(({ forward }) => forward.places().get("web")!.address);
  assert.notEqual(addresses[0], addresses[1]);
  assert.deepEqual(second.forward.places().get("web")!.notes, []);
});

/** A free port with a free one 10,000 above it, most likely: below the ports that systems give out. */
function lowFreePort(): number {
  for (let port = 20_000; port < 22_000; port++) {
    try {
      for (const each of [port, port + 10_000]) Deno.listen({ hostname: "0.0.0.0", port: each }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
  throw new Error("No free port");
}
