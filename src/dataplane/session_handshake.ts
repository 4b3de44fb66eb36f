/**
 * The handshake of an end-to-end session: mutual TLS 1.3 over the relayed stream, our own verification of the
 * peer's chain, and one hello message each way, from which the session's secret comes.
 */

import type { Buffer } from "node:buffer";
import { randomBytes, X509Certificate } from "node:crypto";
import { setImmediate } from "node:timers";
import { connect, createServer, type PeerCertificate, type TLSSocket } from "node:tls";
import { concat } from "../base/bytes.ts";
import type { ByteChannel } from "../base/channel.ts";
import { errorMessage } from "../base/errors.ts";
import type { VerifiedChain } from "../identity/chain.ts";
import type { SpiffeId } from "../identity/spiffe_id.ts";
import { ChannelDuplex } from "./channel_duplex.ts";
import { DataplaneError } from "./errors.ts";
import { deriveSessionSecret, SESSION_RANDOM_LENGTH } from "./flow_keys.ts";
import { type SessionRole, type SessionTrust, trustOf, verifyPeer } from "./session_trust.ts";

/**
 * The protocols that an end names in the handshake (ALPN), the best first: in version 2 either end may renew its
 * certificate while the session lives, in version 1 nothing may follow the hellos.
 */
export const SESSION_PROTOCOLS = ["ginnel-e2e/2", "ginnel-e2e/1"] as const;

/** The parts of an identity that a session shows and proves; `Identity` has them all. */
export interface SessionIdentity {
  readonly id: { readonly uri: string };
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
}

/** What each end brings to the handshake. */
export interface HandshakeOptions extends SessionTrust {
  /** The stream through the relay; the session owns it from here on. */
  readonly channel: ByteChannel;
  readonly identity: SessionIdentity;
  /** Whom to trust from now on, where that may change while the session lives; it then stands for the above. */
  readonly trust?: () => SessionTrust;
  /** Milliseconds since the epoch; default `Date.now`. */
  readonly now?: () => number;
  /** Ends the handshake early; use `AbortSignal.timeout`. It has no effect on the finished session. */
  readonly signal?: AbortSignal;
}

/** What the handshake leaves behind. */
export interface Handshake {
  readonly secret: Uint8Array<ArrayBuffer>;
  readonly peer: VerifiedChain;
  /** Whether both ends know how to renew their certificates. */
  readonly isRenewable: boolean;
  readonly socket: TLSSocket;
  /** What the socket runs on; destroying it aborts the channel. */
  readonly duplex: ChannelDuplex;
}

/**
 * Most bytes a peer may send on a session's stream: handshake, chain, hello, tickets, and renewals, of which each one that
 * is accepted grants as many again.
 */
export const MAX_STREAM_BYTES = 65_536;

/** Most certificates taken from a peer. */
const MAX_CHAIN_LENGTH = 4;

/** First byte of the hello messages; 32 random bytes follow. */
const HELLO = { connector: 1, agent: 2 } as const satisfies Record<SessionRole, number>;
const HELLO_LENGTH = 1 + SESSION_RANDOM_LENGTH;

/** The kinds of identity that open sessions: a program that offers services may also use others'. */
const CALLERS: ReadonlySet<SpiffeId["kind"]> = new Set(["agent", "user", "connector", "workload"]);

/** Never resolved: the peer is named by its SPIFFE ID, but TLS wants some server name. */
const SERVER_NAME = "connector.ginnel.internal";

/** Agent side, the TLS client: nobody but `expectPeer` will do. */
export function shakeHandsAsAgent(
  options: HandshakeOptions & { readonly expectPeer: string },
): Promise<Handshake> {
  return shakeHands(options, {
    role: "agent",
    start: startClient,
    assertPeer: (peer) => {
      if (peer.kind !== "connector" && peer.kind !== "workload") throw wrongKind(peer);
      if (peer.uri === options.expectPeer) return;
      throw new DataplaneError(
        "ERR_SESSION_PEER_MISMATCH",
        `Expected ${options.expectPeer} at the end of the session, found ${peer.uri}`,
      );
    },
  });
}

/** Connector side, the TLS server: anybody but relays and controllers; what it may dial is decided per flow. */
export function shakeHandsAsConnector(options: HandshakeOptions): Promise<Handshake> {
  return shakeHands(options, {
    role: "connector",
    start: startServer,
    assertPeer: (peer) => {
      if (!CALLERS.has(peer.kind)) throw wrongKind(peer);
    },
  });
}

/** What differs between the two ends. */
interface Side {
  readonly role: SessionRole;
  /** Runs TLS up to a socket whose peer was authenticated. */
  readonly start: (duplex: ChannelDuplex, credentials: TlsCredentials) => Promise<TLSSocket>;
  /** Refuses a verified peer that may not be at the other end. */
  readonly assertPeer: (peer: SpiffeId) => void;
}

async function shakeHands(options: HandshakeOptions, side: Side): Promise<Handshake> {
  const { channel, signal } = options;
  const duplex = new ChannelDuplex({ channel, maxReadBytes: MAX_STREAM_BYTES });
  const abort = () => duplex.destroy();
  // TLS may report one failure on several streams and again later; the promise or `closed` tells it once.
  duplex.on("error", ignore);
  const lost = new Promise<never>((_, reject) => {
    // TLS alone would wait for ever on a stream that ends inside its handshake; what it has to say goes first.
    const onEnd = () => setImmediate(() => reject(streamEnded()));
    duplex.once("end", onEnd).once("close", onEnd);
  });
  signal?.addEventListener("abort", abort, { once: true });
  if (signal?.aborted) abort();
  try {
    return await Promise.race([lost, converse(duplex, { ...options, ...side })]);
  } catch (error) {
    duplex.destroy();
    throw signal?.aborted ? signal.reason : asSessionError(error);
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

async function converse(duplex: ChannelDuplex, options: HandshakeOptions & Side): Promise<Handshake> {
  const { identity, role } = options;
  const socket = await options.start(duplex, tlsCredentials(options));
  const isRenewable = assertTls(socket) === SESSION_PROTOCOLS[0];
  const { now = Date.now } = options;
  const peer = await verifyPeer(peerChain(socket), { trust: trustOf(options), role, now: now() });
  options.assertPeer(peer.id);
  const randoms = await exchangeHellos(socket, role);
  const [agent, connector] = role === "agent"
    ? [identity.id.uri, peer.id.uri]
    : [peer.id.uri, identity.id.uri];
  const secret = deriveSessionSecret({ ...randoms, agent, connector });
  return { secret, peer, isRenewable, socket, duplex };
}

type TlsCredentials = ReturnType<typeof tlsCredentials>;

function tlsCredentials({ identity, ...options }: HandshakeOptions) {
  const { roots, foreign = [] } = trustOf(options);
  return {
    cert: identity.certificatePem,
    key: identity.privateKeyPem,
    // Which of them may vouch for whom, our own verification says.
    ca: [...roots, ...foreign.flatMap((trust) => trust.roots)],
    minVersion: "TLSv1.3" as const,
    maxVersion: "TLSv1.3" as const,
    ALPNProtocols: [...SESSION_PROTOCOLS],
    rejectUnauthorized: true,
  };
}

async function startClient(duplex: ChannelDuplex, credentials: TlsCredentials): Promise<TLSSocket> {
  const socket = connect({
    ...credentials,
    socket: duplex,
    servername: SERVER_NAME,
    // The name is a SPIFFE ID, compared on the verified chain.
    checkServerIdentity: () => undefined,
  });
  socket.on("error", ignore);
  await once(socket, "secureConnect");
  return socket;
}

/**
 * TLS is accepted through a server object: only there does the runtime refuse certificates of a foreign CA; a
 * bare server-side TLS socket lets them pass.
 */
function startServer(duplex: ChannelDuplex, credentials: TlsCredentials): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const server = createServer({ ...credentials, requestCert: true });
    server.once("secureConnection", (socket) => {
      socket.on("error", ignore);
      resolve(socket);
    });
    server.once("tlsClientError", reject);
    server.emit("connection", duplex);
  });
}

/** Returns the protocol that both ends chose. */
function assertTls(socket: TLSSocket): string {
  if (!socket.authorized) {
    throw new DataplaneError("ERR_SESSION_UNTRUSTED", "The peer's certificate is not authorized");
  }
  const protocol = SESSION_PROTOCOLS.find((name) => name === socket.alpnProtocol);
  if (socket.getProtocol() !== "TLSv1.3" || protocol === undefined) {
    const chosen = `${socket.getProtocol()} ${socket.alpnProtocol}`;
    throw new DataplaneError("ERR_SESSION_HANDSHAKE", `End-to-end handshake chose ${chosen}`);
  }
  return protocol;
}

/**
 * The leaf and its intermediates. What `node:tls` returns goes on with a root, or on the client's side with all of our own
 * in any order, so it counts as far as each certificate is followed by its issuer.
 */
function peerChain(socket: TLSSocket): Uint8Array[] {
  let next: LinkedCertificate | undefined = socket.getPeerCertificate(true);
  let last = new X509Certificate(next.raw);
  // A self-signed leaf stays, to be refused for what it is.
  const chain = [new Uint8Array(next.raw)];
  while (chain.length < MAX_CHAIN_LENGTH) {
    next = next?.issuerCertificate;
    if (next === undefined) break;
    const issuer = new X509Certificate(next.raw);
    if (issuer.subject !== last.issuer || issuer.subject === issuer.issuer) break;
    chain.push(new Uint8Array(next.raw));
    last = issuer;
  }
  return chain;
}

type LinkedCertificate = PeerCertificate & { readonly issuerCertificate?: PeerCertificate };

/**
 * Exchanges 32 random bytes each way. The connector speaks first, and only after it authorized the agent: TLS 1.3
 * lets a client believe in a session that its server is about to refuse.
 */
async function exchangeHellos(
  socket: TLSSocket,
  role: SessionRole,
): Promise<{ readonly serverRandom: Uint8Array; readonly clientRandom: Uint8Array }> {
  const ours = randomBytes(SESSION_RANDOM_LENGTH);
  const hello = concat([Uint8Array.of(HELLO[role]), ours]);
  if (role === "connector") {
    socket.write(hello);
    return { serverRandom: ours, clientRandom: await readHello(socket, HELLO.agent) };
  }
  const serverRandom = await readHello(socket, HELLO.connector);
  socket.write(hello);
  return { serverRandom, clientRandom: ours };
}

async function readHello(socket: TLSSocket, type: number): Promise<Uint8Array> {
  let hello: Buffer | null;
  while ((hello = socket.read(HELLO_LENGTH)) === null) await once(socket, "readable");
  if (hello.length !== HELLO_LENGTH || hello[0] !== type) {
    throw new DataplaneError("ERR_SESSION_PROTOCOL", "Expected a hello message");
  }
  return hello.subarray(1);
}

/** Waits for one event; rejects when the socket fails or ends first. */
function once(socket: TLSSocket, event: "secureConnect" | "readable"): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error) => {
      socket.off(event, onEvent).off("error", settle).off("end", onEnd);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onEvent = () => settle();
    const onEnd = () => settle(streamEnded());
    socket.on(event, onEvent).on("error", settle).on("end", onEnd);
  });
}

function streamEnded(): Error {
  return new Error("the stream ended");
}

/** Puts what TLS throws under our codes. */
function asSessionError(error: unknown): DataplaneError {
  if (error instanceof DataplaneError) return error;
  const code = (error as { code?: unknown } | undefined)?.code;
  const isUntrusted = typeof code === "string" && /CERT|ISSUER|SIGNATURE/.test(code);
  return new DataplaneError(
    isUntrusted ? "ERR_SESSION_UNTRUSTED" : "ERR_SESSION_HANDSHAKE",
    `End-to-end handshake failed: ${errorMessage(error)}`,
    { cause: error },
  );
}

function wrongKind(peer: SpiffeId): DataplaneError {
  return new DataplaneError("ERR_SESSION_PEER_KIND", `${peer.uri} may not be at this end of a session`);
}

function ignore(): void {}
