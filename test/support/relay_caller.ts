/**
 * Speaks to a relay without any of the manners of a node: dials it, makes the requests a test wants, with or
 * without a proof, and reports what came back.
 */

import { createLogger } from "../../src/base/log.ts";
import type { ByteChannel } from "../../src/base/channel.ts";
import type { ClientConnection, WebTransportSession } from "../../src/dataplane/carrier.ts";
import { type Identity, loadIdentity } from "../../src/identity/identity_file.ts";
import { createProof } from "../../src/identity/proof.ts";
import { relayServerName } from "../../src/identity/spiffe_id.ts";
import { QuicDialer } from "../../src/io/quic/dialer.ts";
import { dialTls } from "../../src/io/tls/dialer.ts";
import { TLS_CARRIER_ALPN } from "../../src/io/tls/listener.ts";
import { INSTANCE_HEADER, PARK_PROTOCOL, SEALED_HEADER } from "../../src/modes/shared/relay_protocol.ts";
import { CONNECTOR_PATH, sessionPath, tcpPath, VIEW_PATH } from "../../src/wire/masque/uri.ts";

/** A logger that says nothing. */
export const SILENT = createLogger({ level: "error", write: () => {} });

/** How a request's bytes travel, as a client can ask for it. */
export type FlowForm = "sealed" | "capsules" | "classic";

/** A relay's answer to a request. */
export interface Answer {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: ByteChannel;
}

/** A request, complete but for the authority. */
export interface Request {
  readonly method: string;
  readonly path?: string;
  readonly scheme?: string;
  readonly protocol?: string;
  readonly authority?: string;
  readonly headers?: readonly (readonly [string, string])[];
}

/** Which relay to call. */
export interface RelayAtPort {
  readonly name: string;
  readonly port: number;
}

/** Calls one relay; disposing it closes every connection it made. */
export class RelayCaller implements AsyncDisposable {
  readonly #relay: RelayAtPort;
  readonly #root: string;
  readonly #dialer = new QuicDialer({ logger: SILENT });
  readonly #connections: ClientConnection[] = [];

  constructor(relay: RelayAtPort, root: string) {
    this.#relay = relay;
    this.#root = root;
  }

  /** Opens a connection; the relay knows nothing of us yet. */
  async dial(carrier: "quic" | "tls" = "quic"): Promise<CallerConnection> {
    const target = {
      address: { hostname: "127.0.0.1", port: this.#relay.port },
      serverName: relayServerName(this.#relay.name),
      roots: [this.#root],
      signal: AbortSignal.timeout(10_000),
    };
    const connection = await (carrier === "quic" ? this.#dialer.dial(target) : dialTls(target));
    this.#connections.push(connection);
    return new CallerConnection(connection, target.serverName);
  }

  /** Makes a TLS carrier's connection out of a socket, and leaves it to the caller what goes through it. */
  async startTls(socket: Deno.TcpConn): Promise<Deno.TlsConn> {
    const connection = await Deno.startTls(socket, {
      hostname: relayServerName(this.#relay.name),
      caCerts: [this.#root],
      alpnProtocols: [TLS_CARRIER_ALPN],
    });
    await connection.handshake();
    return connection;
  }

  /** Opens a connection and proves an identity on it; throws unless the relay admits it. */
  async admitted(identity: Identity): Promise<CallerConnection> {
    const connection = await this.dial();
    const answer = await connection.view(await this.proof(identity));
    if (answer.status !== 200) throw new Error(`The relay answered ${answer.status} to ${identity.id.uri}`);
    return connection;
  }

  /** A proof for this relay unless told otherwise. */
  proof(
    identity: Identity,
    options: { readonly audience?: string; readonly now?: number } = {},
  ): Promise<string> {
    const { audience = this.#relay.name, now = Date.now() } = options;
    return createProof({ identity, audience, now });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection.close(0x100, "test done")));
    await this.#dialer[Symbol.asyncDispose]();
  }
}

/** One connection to the relay. */
export class CallerConnection {
  readonly carrier: ClientConnection;
  readonly #authority: string;

  constructor(carrier: ClientConnection, authority: string) {
    this.carrier = carrier;
    this.#authority = authority;
  }

  /** Makes any request and returns the answer's head and body. */
  async request(request: Request, options: { readonly end?: boolean } = {}): Promise<Answer> {
    const { head, body } = await this.carrier.request(
      { authority: this.#authority, ...request },
      { ...options, signal: AbortSignal.timeout(15_000) },
    );
    return { status: head.status, headers: head.headers, body };
  }

  /** Asks for the view, with a proof if there is one. */
  view(proof?: string): Promise<Answer> {
    return this.request(
      { method: "GET", scheme: "https", path: VIEW_PATH, headers: bearer(proof) },
      { end: true },
    );
  }

  /** Asks for a flow to a service. */
  flow(
    service: string,
    options: { readonly form?: FlowForm; readonly proof?: string } = {},
  ): Promise<Answer> {
    const { form = "sealed", proof } = options;
    if (form === "classic") {
      return this.request({ method: "CONNECT", authority: `${service}:443`, headers: bearer(proof) });
    }
    const headers = bearer(proof);
    if (form === "sealed") headers.push([SEALED_HEADER, "?1"]);
    const path = tcpPath({ host: service, port: 443 });
    return this.request({ method: "CONNECT", protocol: "connect-tcp", scheme: "https", path, headers });
  }

  /** Asks for the stream of an end-to-end session. */
  session(connector: string, instance?: string): Promise<Answer> {
    return this.request({
      method: "CONNECT",
      protocol: "connect-tcp",
      scheme: "https",
      path: sessionPath(connector),
      headers: instance === undefined ? [] : [[INSTANCE_HEADER, instance]],
    });
  }

  /** Asks to park this connection as a connector does. */
  park(instance: string): Promise<Answer> {
    return this.request({
      method: "CONNECT",
      protocol: PARK_PROTOCOL,
      scheme: "https",
      path: CONNECTOR_PATH,
      headers: [[INSTANCE_HEADER, instance]],
    });
  }

  /** Opens a connector's session; rejects when the relay refuses it. */
  connectorSession(instance: string): Promise<WebTransportSession> {
    return this.carrier.connectWebTransport({
      authority: this.#authority,
      path: CONNECTOR_PATH,
      headers: [[INSTANCE_HEADER, instance]],
      signal: AbortSignal.timeout(15_000),
    });
  }
}

/** Loads an identity that a test network issued. */
export function identityOf(path: Promise<string>): Promise<Identity> {
  return path.then(loadIdentity);
}

function bearer(proof: string | undefined): [string, string][] {
  return proof === undefined ? [] : [["authorization", `Bearer ${proof}`]];
}
