/** What tests ask of a tunnel ground from one of its hosts: ping, web requests and checked transfers. */

import type { ManagedProcess } from "./processes.ts";
import type { GroundHost, TunnelGround } from "./tunnel_ground.ts";
import { INTERNET_PORTS, patternBytes, sha256 } from "./tunnel_internet.ts";
import type { TcpTransfer, UdpTransfer } from "./tunnel_probe.ts";

const PROBE = new URL("./tunnel_probe.ts", import.meta.url).pathname;
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
export async function ping(
  ground: TunnelGround,
  route: { readonly from: GroundHost; readonly to: string } & PingOptions,
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
  const [, mtu] = /mtu ?= ?(\d+)/.exec(text) ?? [];
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
export async function seenAs(
  ground: TunnelGround,
  route: { readonly from: GroundHost; readonly web: string; readonly seconds?: number },
): Promise<{ readonly address?: string; readonly fault?: string }> {
  const { from, web, seconds = 5 } = route;
  const url = `http://${bracketed(web)}/ip`;
  const { ok, text } = await attempt(ground, from, ["curl", "-sS", "--max-time", `${seconds}`, url]);
  return ok ? { address: text.trim() } : { fault: text.trim() };
}

/** Downloads that many bytes over HTTP and compares them with what was sent. */
export async function download(
  ground: TunnelGround,
  route: { readonly from: GroundHost; readonly web: string; readonly bytes: number },
): Promise<{ readonly intact: boolean; readonly text: string }> {
  const { from, web, bytes } = route;
  const url = `http://${bracketed(web)}/bytes/${bytes}`;
  const { ok, text } = await attempt(ground, from, [
    ...["bash", "-o", "pipefail", "-c", `curl -sSf --max-time ${FETCH_SECONDS} "$1" | sha256sum`, "-", url],
  ]);
  return { intact: ok && text.startsWith(await sha256(patternBytes(bytes))), text };
}

/** Sends bytes to the TCP echo service and compares what comes back: both directions at once. */
export async function transferTcp(
  ground: TunnelGround,
  route: { readonly from: GroundHost; readonly to: string; readonly bytes: number },
): Promise<TcpTransfer> {
  return await probe(ground, route.from, ["tcp", route.to, `${INTERNET_PORTS.echo}`, `${route.bytes}`]);
}

/** Sends datagrams to the UDP echo service and compares what comes back. */
export async function transferUdp(
  ground: TunnelGround,
  route: { readonly from: GroundHost; readonly to: string; readonly count: number; readonly size: number },
): Promise<UdpTransfer> {
  const { from, to, count, size } = route;
  return await probe(ground, from, ["udp", to, `${INTERNET_PORTS.echo}`, `${count}`, `${size}`]);
}

/**
 * One TCP connection that ticks every 20 ms (`tick N GAP_MS`) until it breaks or is silent for too long (`broken WHY`).
 */
export async function startTicks(
  ground: TunnelGround,
  route: { readonly from: GroundHost; readonly to: string; readonly silenceMs?: number },
): Promise<ManagedProcess> {
  const { from, to, silenceMs = 20_000 } = route;
  const ticks = ground.spawn(from, probeCommand(["ticks", to, `${INTERNET_PORTS.echo}`, `${silenceMs}`]));
  await ticks.waitForLine(/^tick 5 /);
  return ticks;
}

async function probe<T>(ground: TunnelGround, from: GroundHost, args: readonly string[]): Promise<T> {
  return JSON.parse(await ground.run(from, probeCommand(args)));
}

function probeCommand(args: readonly string[]): string[] {
  return [Deno.execPath(), "run", "--quiet", "--no-check", "--allow-all", "--unstable-net", PROBE, ...args];
}

async function attempt(
  ground: TunnelGround,
  from: GroundHost,
  command: readonly string[],
): Promise<{ readonly ok: boolean; readonly text: string }> {
  await using running = ground.spawn(from, command);
  const { success } = await running.ended;
  return { ok: success, text: running.lines.join("\n") };
}

function bracketed(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}
