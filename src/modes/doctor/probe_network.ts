/**
 * Tries a node's ways out, for `ginnel doctor`: UDP on this machine, every relay by both carriers, and upstreams.
 */

import { formatHostPort, type Upstream } from "../../base/address.ts";
import { SILENT_LOGGER } from "../../base/log.ts";
import type { ClientConnection } from "../../dataplane/carrier.ts";
import type { Identity } from "../../identity/identity_file.ts";
import { createProof } from "../../identity/proof.ts";
import { relayServerName } from "../../identity/spiffe_id.ts";
import { SYSTEM_FILES } from "../../io/network/libc.ts";
import { QuicDialer } from "../../io/quic/dialer.ts";
import { raiseSocketBuffers, type SocketBuffers } from "../../io/quic/socket_buffers.ts";
import { dialUpstream } from "../../io/tcp/dial.ts";
import { canResetConnections } from "../../io/tcp/reset_socket.ts";
import { dialTls } from "../../io/tls/dialer.ts";
import { VIEW_PATH } from "../../wire/masque/uri.ts";
import type { RelayAddress } from "../shared/relay_client.ts";

/** Milliseconds each attempt may take. */
const PROBE_TIMEOUT = 3_000;

/** Sends a datagram to ourselves; rejects when it does not come back. */
export async function probeUdp(): Promise<void> {
  const socket = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  const sent = crypto.getRandomValues(new Uint8Array(16));
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error("a datagram to 127.0.0.1 did not arrive")), PROBE_TIMEOUT);
  try {
    await socket.send(sent, socket.addr);
    const [received] = await Promise.race([socket.receive(), late]);
    if (received.some((byte, i) => byte !== sent[i])) {
      throw new Error("a foreign datagram came instead of ours");
    }
  } finally {
    clearTimeout(timer);
    socket.close();
  }
}

/** Whether libc can be called: raising buffers and resetting sockets need it. */
export function probeLibc(): boolean {
  return canResetConnections();
}

/** The text of `/proc/self/limits`; undefined where libc or the file is not there. */
export function probeLimits(): string | undefined {
  return probeLibc() ? SYSTEM_FILES.read("/proc/self/limits") : undefined;
}

/** What the kernel grants a UDP socket that asks as a node does; undefined where it cannot be asked. */
export function probeSocketBuffers(): SocketBuffers | undefined {
  const socket = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  try {
    return raiseSocketBuffers((socket.addr as Deno.NetAddr).port, SILENT_LOGGER);
  } finally {
    socket.close();
  }
}

/** What trying a relay tells. */
export interface RelayAnswer {
  /** Milliseconds until it was connected. */
  readonly took: number;
  /** Whether it knows who we are. */
  readonly isAdmitted: boolean;
}

/** Connects to a relay, checks that it is the one named, and proves who we are. */
export async function probeRelay(
  relay: RelayAddress,
  options: { readonly carrier: "quic" | "tls"; readonly identity: Identity },
): Promise<RelayAnswer> {
  const started = performance.now();
  const timeout = new AbortController();
  const timer = setTimeout(
    () =>
      timeout.abort(new Error(`no answer from ${formatHostPort(relay.address)} within ${PROBE_TIMEOUT} ms`)),
    PROBE_TIMEOUT,
  );
  await using dialer = new QuicDialer({ logger: SILENT_LOGGER });
  const target = {
    address: relay.address,
    serverName: relayServerName(relay.name),
    roots: options.identity.trust.roots,
    signal: timeout.signal,
  };
  try {
    const connection: ClientConnection =
      await (options.carrier === "quic" ? dialer.dial(target) : dialTls(target));
    const took = performance.now() - started;
    try {
      const isAdmitted = await proveTo(connection, { relay: relay.name, ...options, signal: timeout.signal });
      return { took, isAdmitted };
    } finally {
      await connection.close(0x100, "doctor");
    }
  } finally {
    clearTimeout(timer);
  }
}

async function proveTo(
  connection: ClientConnection,
  { relay, identity, signal }: {
    readonly relay: string;
    readonly identity: Identity;
    readonly signal: AbortSignal;
  },
): Promise<boolean> {
  const proof = await createProof({ identity, audience: relay, now: Date.now() });
  const { head, body } = await connection.request({
    method: "HEAD",
    scheme: "https",
    authority: relayServerName(relay),
    path: VIEW_PATH,
    headers: [["authorization", `Bearer ${proof}`]],
  }, { signal, end: true });
  body.abort();
  // Any other answer is given to somebody it knows.
  return head.status !== 401;
}

/** Connects to an upstream and leaves it in peace. */
export async function probeUpstream(upstream: Upstream): Promise<void> {
  (await dialUpstream(upstream, { timeout: PROBE_TIMEOUT })).close();
}
