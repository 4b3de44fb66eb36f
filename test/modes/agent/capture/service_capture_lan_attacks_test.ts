/**
 * Other machines on the network of one that captures: they reach no service through it, and nobody takes what they send
 * for a service's answer. Forwarding is on and nothing filters sources, as on many a machine that runs containers.
 */

import assert from "node:assert/strict";
import { withDeadline } from "../../../../src/base/async.ts";
import type { Ground } from "../../../io/network/ground.ts";
import { eventually } from "../../../support/eventually.ts";
import { RawSender } from "../../../support/raw_socket.ts";
import { testNeeding } from "../../../support/require_tool.ts";
import { sealed } from "../../../support/tunnel_packets.ts";
import { echo, icmpError, tcp, udp } from "../../../dataplane/tunnel/packets.ts";
import { CAPTURE_NEEDS, type CaptureGround, INTERFACE, onCaptureGround, virtual } from "./capture_ground.ts";

const WEB = virtual(100);
const OWN = virtual(2);
const PEER = virtual(3);
const NEAR = { 4: "10.77.0.1", 6: "fd77::1" } as const;
const FAR = { 4: "10.77.0.2", 6: "fd77::2" } as const;
const ANY = { 4: "0.0.0.0", 6: "::" } as const;
const SYN = 2;

for (const version of [4, 6] as const) {
  testNeeding(
    CAPTURE_NEEDS,
    `a datagram from the LAN passes for no service's answer over IPv${version}`,
    () =>
      onLan({}, async ({ lan }) => {
        using program = socketAt(ANY[version]);
        const service = { hostname: WEB[version], port: 5_000 };
        assert.equal(await ask(program, service, "first"), "first");
        for (const dst of [OWN[version], NEAR[version]]) {
          for (
            const [src, srcPort] of [[WEB[version], 5_000], [virtual(1)[version], 53], [
              PEER[version],
              1,
            ]] as const
          ) {
            lan.send(sealed(udp({ src, dst, srcPort, dstPort: program.port, data: text("forged") })));
          }
        }
        assert.equal(await ask(program, service, "second"), "second");
      }),
  );

  testNeeding(
    CAPTURE_NEEDS,
    `the listener is not there for the LAN over IPv${version}, whoever it says it is`,
    () =>
      onLan({}, async ({ ground, lan, capture }) => {
        using conn = await Deno.connect({ hostname: WEB[version], port: 80 });
        const listener = await listenerPort(ground, version);
        const address = version === 4 ? OWN[4] : `[${OWN[6]}]`;
        const knock = `timeout 1 bash -c 'exec 3<>/dev/tcp/${
          OWN[version]
        }/${listener}' 2>&1 && echo open || echo no`;
        assert.match(await ground.shell(knock, "far"), /no$/m, `${address} ${listener}`);
        assert.doesNotMatch(await ground.shell(knock, "far"), /refused/);
        // Every port that the invented peer may have: one of them is the connection's.
        for (let port = 1_024; port < 65_536; port += 8) {
          for (const flags of [SYN, 0x04, 0x18]) {
            lan.send(
              sealed(tcp({ src: PEER[version], dst: OWN[version], srcPort: port, dstPort: listener, flags })),
            );
          }
        }
        await conn.write(text("still there"));
        assert.equal(await readText(conn), "still there");
        assert.equal(capture.status.tcp, 1);
      }),
  );

  testNeeding(
    CAPTURE_NEEDS,
    `what the LAN sends to services begins no flow over IPv${version}, in this machine's name least of all`,
    () =>
      onLan({}, async ({ lan, network, queries }) => {
        for (const src of [FAR[version], NEAR[version], OWN[version], PEER[version], WEB[version]]) {
          for (const dst of [WEB[version], virtual(1)[version], PEER[version], OWN[version]]) {
            lan.send(sealed(udp({ src, dst, srcPort: 4_000, dstPort: 53, data: text("query") })));
            lan.send(sealed(tcp({ src, dst, dstPort: 80, flags: SYN })));
            lan.send(sealed(echo({ src, dst })));
          }
        }
        using program = socketAt(ANY[version]);
        assert.equal(await ask(program, { hostname: WEB[version], port: 7 }, "ours"), "ours");
        assert.deepEqual(network.asked, [{ service: "web", port: 7, protocol: "udp" }]);
        assert.deepEqual(queries, []);
      }),
  );

  testNeeding(
    CAPTURE_NEEDS,
    `where remote clients are allowed, nobody speaks in another's name over IPv${version}`,
    () =>
      onLan({ allowRemoteClients: true }, async ({ ground, lan, network }) => {
        for (const src of [NEAR[version], OWN[version], PEER[version], WEB[version]]) {
          lan.send(sealed(udp({ src, dst: WEB[version], srcPort: 4_000, dstPort: 7, data: text("forged") })));
        }
        using client = ground.at("far", () => socketAt(ANY[version]));
        assert.equal(await ask(client, { hostname: WEB[version], port: 7 }, "far"), "far");
        assert.equal(network.asked.length, 1);
        using program = socketAt(ANY[version]);
        assert.equal(await ask(program, { hostname: WEB[version], port: 7 }, "near"), "near");
      }),
  );
}

testNeeding(
  CAPTURE_NEEDS,
  "forged ICMP errors from the LAN end no flow",
  () =>
    onLan({}, async ({ lan, network }) => {
      using program = socketAt(ANY[4]);
      const service = { hostname: WEB[4], port: 7 };
      assert.equal(await ask(program, service, "first"), "first");
      using conn = await Deno.connect({ hostname: WEB[4], port: 80 });
      const { port } = conn.localAddr as Deno.NetAddr;
      for (const code of [0, 1, 2, 3, 13]) {
        const quoted = [
          udp({ src: OWN[4], dst: WEB[4], srcPort: program.port, dstPort: 7 }),
          tcp({ src: OWN[4], dst: WEB[4], srcPort: port, dstPort: 80 }),
        ];
        for (const quote of quoted) {
          for (const dst of [OWN[4], NEAR[4]]) {
            for (const src of [FAR[4], WEB[4]]) {
              lan.send(sealed(icmpError({ src, dst, quoted: quote, code })));
            }
          }
        }
      }
      assert.equal(await ask(program, service, "second"), "second");
      await conn.write(text("still there"));
      assert.equal(await readText(conn), "still there");
      assert.equal(network.flows.length, 1);
    }),
);

interface Lan extends CaptureGround {
  /** Sends packets of any kind from `far`. */
  readonly lan: RawSender;
  /** What the resolver was asked. */
  readonly queries: Uint8Array[];
}

function onLan(options: { readonly allowRemoteClients?: boolean }, body: (ground: Lan) => Promise<void>) {
  return onCaptureGround(async (parts) => {
    const { ground, network } = parts;
    const pool6 = "fd12:3456:789a:1::/64";
    await ground.shell(
      `echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
      for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done
      ping -6 -c 1 -W 2 fd77::2`,
    );
    await ground.shell(
      `ip route add 10.101.0.0/16 via 10.77.0.1; ip -6 route add ${pool6} via fd77::1
       ip addr add 10.66.0.1/32 dev lo`,
      "far",
    );
    const queries: Uint8Array[] = [];
    network.answerDns = (query) => {
      queries.push(query.slice());
      return query.slice();
    };
    using lan = ground.at("far", () => new RawSender());
    await body({ ...parts, lan, queries });
  }, options);
}

async function listenerPort(ground: Ground, version: 4 | 6): Promise<number> {
  const lines = (await ground.shell("ss -Htln")).split("\n");
  const address = version === 4 ? OWN[4] : `[${OWN[6]}]`;
  const port = lines.map((line) => line.split(/\s+/)[3] ?? "").find((local) => local.startsWith(address))
    ?.slice(address.length).match(/:(\d+)$/)?.[1];
  assert.ok(port, `no listener on ${INTERFACE}`);
  return Number(port);
}

function socketAt(hostname: string): Deno.DatagramConn & Disposable & { readonly port: number } {
  const socket = Deno.listenDatagram({ transport: "udp", hostname, port: 0 });
  const { port } = socket.addr as Deno.NetAddr;
  return Object.assign(socket, { port, [Symbol.dispose]: () => socket.close() });
}

/** Sends a datagram, and returns the next one that comes. */
async function ask(
  socket: Deno.DatagramConn,
  to: { readonly hostname: string; readonly port: number },
  what: string,
): Promise<string> {
  const answer = socket.receive();
  await eventually(async () => {
    await socket.send(text(what), { transport: "udp", ...to });
    return true;
  });
  return new TextDecoder().decode((await withDeadline(5_000, () => answer))[0]);
}

async function readText(conn: Deno.TcpConn): Promise<string> {
  const bytes = new Uint8Array(100);
  const count = await withDeadline(5_000, () => conn.read(bytes));
  return new TextDecoder().decode(bytes.subarray(0, count ?? 0));
}

function text(content: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(content);
}
