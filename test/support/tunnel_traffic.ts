/** What tests ask of a tunnel ground from one of its hosts: ping, web requests and checked transfers. */

import { compileTool } from "./compile_tool.ts";
import { RELAY_NAME } from "./deployment.ts";
import type { ManagedProcess } from "./processes.ts";
import type { GroundHost, TunnelGround } from "./tunnel_ground.ts";
import { type Stage, TUNNEL_INTERFACE } from "./tunnel_hosts.ts";
import { INTERNET_PORTS, patternBytes, sha256 } from "./tunnel_internet.ts";
import type { TcpTransfer, UdpTransfer } from "./tunnel_probe.ts";

const FETCH_SECONDS = 20;

/** How to ping. */
export interface PingOptions {
  /** Default 4. */
  readonly count?: number;
  /** Bytes of the whole IP packet; default what `ping` sends. */
  readonly packetSize?: number;
  /** Sets DF and lets no one split the packet. */
  readonly dontFragment?: boolean;
}

/** What `ping` saw. */
export interface PingResult {
  readonly sent: number;
  readonly received: number;
  /** The MTU of a Packet Too Big, from the path or from the host's own interface. */
  readonly mtu?: number;
  /** Milliseconds, where anything came back. */
  readonly averageMs?: number;
  /** All it printed. */
  readonly text: string;
}

/** Pings from a host; no answer is a result, not an error. */
export async function ping<N extends string>(
  ground: Stage<N>,
  route: { readonly from: N; readonly to: string } & PingOptions,
): Promise<PingResult> {
  const { from, to, count = 4, packetSize, dontFragment = false } = route;
  const headers = to.includes(":") ? 48 : 28;
  const { text } = await attempt(ground, from, [
    ...["ping", "-n", "-c", `${count}`, "-i", "0.2", "-W", "2"],
    ...(packetSize === undefined ? [] : ["-s", `${packetSize - headers}`]),
    ...(dontFragment ? ["-M", "do"] : []),
    to,
  ]);
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(text) ?? [];
  if (sent === undefined) throw new Error(`ping could not run: ${text}`);
  const [, mtu] = /mtu[ =:]+(\d+)/.exec(text) ?? [];
  const [, average] = /= [\d.]+\/([\d.]+)\//.exec(text) ?? [];
  return {
    sent: Number(sent),
    received: Number(received),
    ...(mtu === undefined ? {} : { mtu: Number(mtu) }),
    ...(average === undefined ? {} : { averageMs: Number(average) }),
    text,
  };
}

/** As whom the internet's web server sees a host, or why it could not ask. */
export async function seenAs<N extends string>(
  ground: Stage<N>,
  route: { readonly from: N; readonly web: string; readonly seconds?: number },
): Promise<{ readonly address?: string; readonly fault?: string }> {
  const { from, web, seconds = 5 } = route;
  const url = `http://${bracketed(web)}/ip`;
  const { ok, text } = await attempt(ground, from, ["curl", "-sS", "--max-time", `${seconds}`, url]);
  return ok ? { address: text.trim() } : { fault: text.trim() };
}

/** Downloads that many bytes over HTTP and compares them with what was sent. */
export async function download<N extends string>(
  ground: Stage<N>,
  route: { readonly from: N; readonly web: string; readonly bytes: number },
): Promise<{ readonly intact: boolean; readonly text: string }> {
  const { from, web, bytes } = route;
  const url = `http://${bracketed(web)}/bytes/${bytes}`;
  const { ok, text } = await attempt(ground, from, [
    ...["bash", "-o", "pipefail", "-c", `curl -sSf --max-time ${FETCH_SECONDS} "$1" | sha256sum`, "-", url],
  ]);
  return { intact: ok && text.startsWith(await sha256(patternBytes(bytes))), text };
}

/** Sends bytes to the TCP echo service and compares what comes back: both directions at once. */
export async function transferTcp<N extends string>(
  ground: Stage<N>,
  route: { readonly from: N; readonly to: string; readonly bytes: number },
): Promise<TcpTransfer> {
  return await probe(ground, route.from, ["tcp", route.to, `${INTERNET_PORTS.echo}`, `${route.bytes}`]);
}

/** Sends datagrams to the UDP echo service and compares what comes back. */
export async function transferUdp<N extends string>(
  ground: Stage<N>,
  route: { readonly from: N; readonly to: string; readonly count: number; readonly size: number },
): Promise<UdpTransfer> {
  const { from, to, count, size } = route;
  return await probe(ground, from, ["udp", to, `${INTERNET_PORTS.echo}`, `${count}`, `${size}`]);
}

/**
 * One TCP connection that ticks every 20 ms (`tick N GAP_MS`) until it breaks or is silent for too long (`broken WHY`).
 */
export async function startTicks<N extends string>(
  ground: Stage<N>,
  route: { readonly from: N; readonly to: string; readonly silenceMs?: number },
): Promise<ManagedProcess> {
  const { from, to, silenceMs = 20_000 } = route;
  const ticks = ground.spawn(
    from,
    script("tunnel_probe.ts", ["ticks", to, `${INTERNET_PORTS.echo}`, `${silenceMs}`]),
  );
  await ticks.waitForLine(/^tick 5 /);
  return ticks;
}

/**
 * Puts broken packets onto a host's tunnel interface, below the kernel's checks: the node there reads them as if its
 * host had sent them. Resolves with how many the interface took.
 */
export async function sendRawGarbage(
  ground: TunnelGround,
  load: { readonly on: GroundHost; readonly source: string; readonly to: string; readonly count: number },
): Promise<number> {
  const { on, source, to, count } = load;
  const tool = await compileTool(new URL("./raw_packets.c", import.meta.url));
  return Number(await ground.run(on, [tool, TUNNEL_INTERFACE, source, to, `${count}`, "1"]));
}

/**
 * An admitted peer without an interface that sends broken packets through its tunnel to the relay, and then keeps the
 * tunnel. Resolves when they are sent, with whether the relay had ended it by then.
 */
export async function sendPeerGarbage(
  ground: TunnelGround,
  peer: { readonly from: GroundHost; readonly identity: string; readonly count: number },
): Promise<{ readonly process: ManagedProcess; readonly sent: number; readonly ended: boolean }> {
  const { from, identity, count } = peer;
  const file = await ground.deployment.issue("agent", identity);
  const process = ground.spawn(
    from,
    script("tunnel_garbage.ts", [RELAY_NAME, ground.relayAddress, file, `${count}`]),
  );
  const [, sent, end] = await process.waitForLine(/^sent (\d+) (open|ended)$/, { timeoutMs: 30_000 });
  return { process, sent: Number(sent), ended: end === "ended" };
}

async function probe<T, N extends string>(ground: Stage<N>, from: N, args: readonly string[]): Promise<T> {
  return JSON.parse(await ground.run(from, script("tunnel_probe.ts", args)));
}

function script(name: string, args: readonly string[]): string[] {
  const path = new URL(`./${name}`, import.meta.url).pathname;
  return [Deno.execPath(), "run", "--quiet", "--no-check", "--allow-all", "--unstable-net", path, ...args];
}

async function attempt<N extends string>(
  ground: Stage<N>,
  from: N,
  command: readonly string[],
): Promise<{ readonly ok: boolean; readonly text: string }> {
  await using running = ground.spawn(from, command);
  const { success } = await running.ended;
  return { ok: success, text: running.lines.join("\n") };
}

function bracketed(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}
