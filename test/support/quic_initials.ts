/**
 * Genuine first packets of QUIC clients, caught on their way, and handshakes that are never finished.
 */

import { UdpSocket } from "./udp_socket.ts";

/** The name every Initial asks for. */
const SERVER_NAME = "relay-1.relay.ginnel.internal";

/** Milliseconds: far beyond any test, as an attacker would choose it. */
const LONG_IDLE_MS = 600_000;

/** Catches the first datagram of `count` clients, each with connection ids of its own. */
export async function captureInitials(count: number): Promise<Uint8Array<ArrayBuffer>[]> {
  using trap = new UdpSocket();
  await using clients = new Clients();
  const initials = new Map<string, Uint8Array<ArrayBuffer>>();
  clients.dial(count, { port: trap.address.port });
  while (initials.size < count) {
    const datagram = await trap.receive();
    // Byte 5 is the length of the destination connection id, which tells clients apart.
    const key = datagram.subarray(6, 6 + datagram[5]!).join();
    if (!initials.has(key)) initials.set(key, datagram);
  }
  return [...initials.values()];
}

/** Starts handshakes that nobody will finish. */
export async function halfOpenHandshakes(count: number, server: { readonly port: number }): Promise<void> {
  using sender = new UdpSocket();
  for (const initial of await captureInitials(count)) {
    await sender.send(initial, { hostname: "127.0.0.1", port: server.port });
  }
}

/** QUIC clients that nobody answers. */
class Clients implements AsyncDisposable {
  readonly #endpoint = new Deno.QuicEndpoint({ hostname: "127.0.0.1", port: 0 });
  readonly #dials: Promise<unknown>[] = [];

  dial(count: number, server: { readonly port: number }): void {
    for (let i = 0; i < count; i++) {
      const connecting = Promise.resolve(Deno.connectQuic({
        hostname: "127.0.0.1",
        port: server.port,
        serverName: SERVER_NAME,
        alpnProtocols: ["h3"],
        maxIdleTimeout: LONG_IDLE_MS,
        endpoint: this.#endpoint,
      }));
      this.#dials.push(connecting.catch(() => {}));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#endpoint.close({ closeCode: 0, reason: "" });
    await Promise.all(this.#dials);
  }
}
