/**
 * What the carrier tests share: certificates of a network of their own, listeners and dials on loopback, and
 * ways to read and compare whole channels.
 */

import assert from "node:assert/strict";
import { concat } from "../../src/base/bytes.ts";
import type { ByteChannel } from "../../src/base/channel.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import type { ClientConnection, ServerConnection, ServerRequest } from "../../src/dataplane/carrier.ts";
import { createCa, issueCertificate } from "../../src/identity/pki.ts";
import { relayServerName } from "../../src/identity/spiffe_id.ts";
import { QuicDialer } from "../../src/io/quic/dialer.ts";
import type { QuicLimits } from "../../src/io/quic/limits.ts";
import { listenQuic, type QuicListener, type TlsCredentials } from "../../src/io/quic/listener.ts";
import { dialTls } from "../../src/io/tls/dialer.ts";
import { listenTls, type TlsLimits, type TlsListener } from "../../src/io/tls/listener.ts";

/** The name that every test relay's certificate carries. */
export const SERVER_NAME = relayServerName("relay-1");

/** A relay's certificate and the root to trust for it. */
export interface TestNetwork {
  readonly credentials: TlsCredentials;
  readonly root: string;
}

/** Makes a CA and a relay certificate under it. */
export async function makeNetwork(): Promise<TestNetwork> {
  const now = Date.now();
  const ca = await createCa({ trustDomain: "test.example", now, days: 2 });
  const relay = await issueCertificate(ca, { kind: "relay", name: "relay-1", now, days: 1 });
  return {
    credentials: { cert: relay.certificatePem, key: relay.privateKeyPem! },
    root: ca.certificatePem,
  };
}

/** The network of all tests that need no second one. */
export const NETWORK: TestNetwork = await makeNetwork();

/** Everything that a request handler of a test may do. */
export type Handler = (request: ServerRequest) => Promise<void>;

/** A listener that gives each request to `handle`, and a dialer; dispose it to close both. */
export class TestServer implements AsyncDisposable {
  readonly listener: QuicListener | TlsListener;
  readonly connections: ServerConnection[] = [];
  readonly #handle: Handler;
  readonly #running: Promise<void>;
  readonly #dialer = new QuicDialer({ logger: SILENT_LOGGER });

  constructor(listener: QuicListener | TlsListener, handle: Handler) {
    this.listener = listener;
    this.#handle = handle;
    this.#running = this.#accept();
  }

  static async quic(handle: Handler, limits: Partial<QuicLimits> = {}): Promise<TestServer> {
    const { credentials } = NETWORK;
    const options = { hostname: "127.0.0.1", port: 0, limits, logger: SILENT_LOGGER };
    return new TestServer(await listenQuic({ ...options, ...credentials }), handle);
  }

  static async tls(handle: Handler, limits: Partial<TlsLimits> = {}): Promise<TestServer> {
    const { credentials } = NETWORK;
    const options = { hostname: "127.0.0.1", port: 0, limits, logger: SILENT_LOGGER };
    return new TestServer(await listenTls({ ...options, ...credentials }), handle);
  }

  /** Dials the listener over QUIC. */
  dial(options: { readonly roots?: string[]; readonly serverName?: string } = {}): Promise<ClientConnection> {
    return this.#dialer.dial({ ...this.#target(), ...options });
  }

  /** Dials the listener over TLS. */
  dialTls(
    options: { readonly roots?: string[]; readonly serverName?: string } = {},
  ): Promise<ClientConnection> {
    return dialTls({ ...this.#target(), ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#dialer[Symbol.asyncDispose]();
    await this.listener.close();
    await this.#running;
  }

  #target() {
    return {
      address: { hostname: "127.0.0.1", port: this.listener.port },
      serverName: SERVER_NAME,
      roots: [NETWORK.root],
      signal: AbortSignal.timeout(10_000),
    };
  }

  async #accept(): Promise<void> {
    const served = [];
    for await (const connection of this.listener.connections()) {
      this.connections.push(connection);
      served.push(this.#serve(connection));
    }
    await Promise.all(served);
  }

  async #serve(connection: ServerConnection): Promise<void> {
    const handled = [];
    for await (const request of connection.requests()) handled.push(this.#handle(request));
    await Promise.all(handled);
  }
}

/** Sends back what comes, then ends. */
export async function echo(channel: ByteChannel): Promise<void> {
  for (let bytes = await channel.read(); bytes !== null; bytes = await channel.read()) {
    await channel.write(bytes);
  }
  await channel.closeWrite();
}

/** Answers 200 and echoes the body. */
export async function echoRequest(request: ServerRequest): Promise<void> {
  request.connection.setAuthenticated();
  await echo(await request.respond({ status: 200 }));
}

/** Reads to the end. */
export async function readAll(channel: ByteChannel): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (let bytes = await channel.read(); bytes !== null; bytes = await channel.read()) {
    parts.push(bytes.slice());
  }
  return concat(parts);
}

/** Reads exactly `length` bytes. */
export async function readExactly(channel: ByteChannel, length: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (let got = 0; got < length;) {
    const bytes = await channel.read();
    assert.ok(bytes !== null, `the channel ended after ${got} of ${length} bytes`);
    parts.push(bytes.slice());
    got += bytes.length;
  }
  return concat(parts);
}

/** Bytes that show any loss, repetition or exchange. */
export function pattern(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8) * 7 + (i >> 16)) & 0xff;
  return bytes;
}

/** Text of bytes. */
export function text(bytes: Uint8Array | null): string {
  return bytes === null ? "(end)" : new TextDecoder().decode(bytes);
}
