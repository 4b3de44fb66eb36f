/**
 * A node's connection to one relay, kept alive: dials, proves who we are, follows the view stream, and
 * reconnects with back-off until stopped.
 */

import { base64url } from "jose";
import { backoffDelay, withSignal } from "../../base/async.ts";
import { formatHostPort, type HostPort } from "../../base/address.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { errorCode, errorMessage, GinnelError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ClientConnection, Exchange, RequestInit } from "../../dataplane/carrier.ts";
import type { Identity } from "../../identity/identity_file.ts";
import { createProof } from "../../identity/proof.ts";
import { relayServerName } from "../../identity/spiffe_id.ts";
import type { ViewMessage } from "../../wire/control/messages.ts";
import { H3_NO_ERROR } from "../../wire/h3/codes.ts";
import { VIEW_PATH } from "../../wire/masque/uri.ts";
import { renewProof } from "./proof_renewal.ts";
import { RelayFacts } from "./relay_facts.ts";
import { CLOSED_REFUSED } from "./relay_protocol.ts";
import { hasSignOfLife } from "./sign_of_life.ts";
import type { TlsCarrier } from "./tls_carrier.ts";
import type { ViewHolder } from "./view_holder.ts";
import { readViewStream } from "./view_stream.ts";
import { WakeableDial, WakeablePause } from "./wakeable_dial.ts";

/** A relay as the config names it. */
export interface RelayAddress {
  readonly name: string;
  readonly address: HostPort;
}

/** Dials a carrier; `io/` implements it. */
export interface Dialer {
  dial(target: {
    readonly address: HostPort;
    readonly serverName: string;
    readonly roots: readonly string[];
    readonly signal?: AbortSignal;
  }): Promise<ClientConnection>;
}

/** What a relay client needs. */
export interface RelayClientOptions {
  readonly relay: RelayAddress;
  readonly identity: () => Identity;
  readonly dialer: Dialer;
  readonly views: ViewHolder;
  readonly tls: TlsCarrier;
  readonly logger: Logger;
  /** The relay passed on a signed network document. */
  readonly onNetwork: (jws: string) => Promise<void>;
  /** Runs on every new, authenticated connection; the connection is given up when it rejects. */
  readonly onConnected: (connection: ClientConnection) => Promise<void>;
  /** The connection, or the relay's willingness to take new work, is gone. */
  readonly onLost: () => void;
}

/** Milliseconds for dialling and for the relay's first answer. */
const CONNECT_TIMEOUT_MS = 10_000;

/** A connection that lived this long (ms) resets the back-off. */
const STABLE_MS = 10_000;

/** Keeps one relay connected. */
export class RelayClient {
  readonly facts = new RelayFacts();
  readonly #options: RelayClientOptions;
  readonly #stop = new AbortController();
  #connection: ClientConnection | undefined;
  #draining = false;
  #checking: ClientConnection | undefined;
  /** The dial under way, or else the end of the pause before the next. */
  #waiting: { wake(): void } | undefined;
  readonly #connected = new Set<() => void>();
  /** Ends the tries to prove an older certificate. */
  #renewing: AbortController | undefined;
  /** Told to this relay alone, so that one proof renews all our connections there and nobody else's. */
  readonly #group = base64url.encode(crypto.getRandomValues(new Uint8Array(16)));

  constructor(options: RelayClientOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.relay.name;
  }

  get tls(): TlsCarrier {
    return this.#options.tls;
  }

  /** The live connection, or undefined while there is none or the relay takes no new work. */
  get connection(): ClientConnection | undefined {
    return this.#draining ? undefined : this.#connection;
  }

  /** Connects and reconnects until {@linkcode close}. */
  async run(): Promise<void> {
    const { logger } = this.#options;
    const { signal } = this.#stop;
    for (let attempt = 0; !signal.aborted; attempt++) {
      const started = performance.now();
      let isRefused = false;
      try {
        await this.#connectOnce();
      } catch (error) {
        if (signal.aborted) break;
        isRefused = errorCode(error) === "ERR_RELAY_REFUSED";
        this.facts.lost(errorMessage(error));
        logger.warn("relay_unreachable", { relay: this.name, attempt, detail: errorMessage(error) });
      }
      if (performance.now() - started > STABLE_MS) attempt = 0;
      const pause = new WakeablePause(backoffDelay(attempt, Math.random()), signal);
      // A relay that has told that it does not want us is left in peace.
      this.#waiting = isRefused ? undefined : pause;
      if (this.#connected.size > 0) this.#waiting?.wake();
      await pause.over;
    }
  }

  /**
   * Somebody waits for this relay: dials now rather than later, though not more often than once a second. Resolves when
   * it is connected.
   */
  async hurry(signal: AbortSignal): Promise<void> {
    if (this.connection !== undefined) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#connected.add(resolve);
    this.#waiting?.wake();
    try {
      await withSignal(promise, signal);
    } finally {
      this.#connected.delete(resolve);
    }
  }

  /** Makes a request on the connection. */
  request(
    init: Omit<RequestInit, "authority">,
    options: { readonly signal?: AbortSignal; readonly end?: boolean } = {},
  ): Promise<Exchange> {
    const connection = this.connection;
    if (connection === undefined) {
      return Promise.reject(new GinnelError("ERR_RELAY_DOWN", `Relay ${this.name} is not connected`));
    }
    // RFC 9114 §4.4: a classic CONNECT names host and port.
    const isClassic = init.method === "CONNECT" && init.protocol === undefined;
    const authority = isClassic ? `${this.authority}:${this.#options.relay.address.port}` : this.authority;
    return connection.request({ ...init, authority }, options);
  }

  /** Finds out how long the relay takes to answer; resolves also when it does not. */
  async measure(signal: AbortSignal): Promise<void> {
    const connection = this.#connection;
    if (connection === undefined) return;
    await this.#ask(connection, signal).catch((error) => {
      this.#options.logger.debug("relay_not_measured", { relay: this.name, detail: errorMessage(error) });
    });
  }

  /** Asks for a sign of life, and gives the connection up where none comes: a killed relay leaves no other trace. */
  async check(): Promise<void> {
    const connection = this.#connection;
    if (connection === undefined || this.#checking === connection) return;
    this.#checking = connection;
    const isAlive = await hasSignOfLife({
      ask: (signal) => this.#ask(connection, signal),
      isRefused: (signal) => this.#draining ? Promise.resolve(false) : this.tls.isRefused(signal),
    });
    if (this.#checking === connection) this.#checking = undefined;
    if (isAlive) return;
    this.#options.logger.info("relay_silent", { relay: this.name });
    await connection.close(H3_NO_ERROR, "no sign of life");
  }

  /** The `:authority` of requests to this relay. */
  get authority(): string {
    return relayServerName(this.name);
  }

  /** A fresh proof for this relay, as an `Authorization` value. */
  async authorization(): Promise<string> {
    const proof = await createProof({
      identity: this.#options.identity(),
      audience: this.name,
      now: Date.now(),
      group: this.#group,
    });
    return `Bearer ${proof}`;
  }

  /** Proves our newer certificate on the living connection, so that the relay keeps it and those beside it. */
  async renew(): Promise<void> {
    this.#renewing?.abort();
    const renewing = this.#renewing = new AbortController();
    await renewProof({
      relay: this.name,
      authority: this.authority,
      connection: () => this.#connection,
      authorization: () => this.authorization(),
      signal: AbortSignal.any([renewing.signal, this.#stop.signal]),
      logger: this.#options.logger,
    });
  }

  async close(): Promise<void> {
    this.#renewing?.abort();
    this.#stop.abort(new GinnelError("ERR_STOPPED", "The node is stopping"));
    await this.#connection?.close(H3_NO_ERROR, "node stopped");
  }

  /** Asks something to which any answer will do. */
  async #ask(connection: ClientConnection, signal: AbortSignal): Promise<void> {
    const init = { method: "HEAD", scheme: "https", authority: this.authority, path: VIEW_PATH };
    const { body } = await this.facts.measure(() => connection.request(init, { signal, end: true }));
    body.abort();
  }

  async #connectOnce(): Promise<void> {
    const { relay, dialer, logger } = this.#options;
    const dial = new WakeableDial({
      dial: (signal) =>
        dialer.dial({
          address: relay.address,
          serverName: relayServerName(relay.name),
          roots: this.#options.identity().trust.roots,
          signal: AbortSignal.any([signal, AbortSignal.timeout(CONNECT_TIMEOUT_MS)]),
        }),
      discard: (late) => void late.close(H3_NO_ERROR, "not needed"),
      signal: this.#stop.signal,
    });
    this.#waiting = dial;
    const connection = await dial.result;
    this.#waiting = undefined;
    try {
      const timeout = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(CONNECT_TIMEOUT_MS)]);
      const view = await this.#authenticate(connection, timeout);
      this.#connection = connection;
      this.#draining = false;
      this.#options.tls.reset();
      this.facts.connected();
      for (const resolve of this.#connected) resolve();
      connection.draining.then(() => this.#drain(connection));
      logger.info("relay_connected", { relay: this.name, address: formatHostPort(connection.remote) });
      void this.#followView(connection, view);
      await withSignal(this.#options.onConnected(connection), this.#stop.signal);
      const { code, reason } = await withSignal(connection.closed, this.#stop.signal);
      this.facts.lost(reason === "" ? "the connection ended" : reason);
      if (code === CLOSED_REFUSED) this.#options.views.refused(this.name);
      logger.warn("relay_lost", { relay: this.name, code, reason });
    } finally {
      if (this.#connection === connection) this.#connection = undefined;
      this.#options.views.disconnected(this.name);
      this.#options.onLost();
      await connection.close(H3_NO_ERROR, "done");
    }
  }

  async #authenticate(connection: ClientConnection, signal: AbortSignal): Promise<ByteChannel> {
    const { head, body } = await connection.request({
      method: "GET",
      scheme: "https",
      authority: this.authority,
      path: VIEW_PATH,
      headers: [["authorization", await this.authorization()]],
    }, { signal, end: true });
    if (head.status !== 200) {
      if (head.status === 401) this.#options.views.refused(this.name);
      throw new GinnelError(
        "ERR_RELAY_REFUSED",
        `Relay ${this.name} answered ${head.status} (${
          head.headers.get("proxy-status") ?? "no reason given"
        })`,
      );
    }
    return body;
  }

  async #followView(connection: ClientConnection, body: ByteChannel): Promise<void> {
    const { logger, views } = this.#options;
    try {
      await readViewStream(body, (message) => this.#handle(message, connection, views));
    } catch (error) {
      logger.debug("view_stream_ended", { relay: this.name, detail: errorMessage(error) });
    }
    // Without its view stream a connection would go stale unseen.
    await connection.close(H3_NO_ERROR, "view stream ended");
  }

  async #handle(message: ViewMessage, connection: ClientConnection, views: ViewHolder): Promise<void> {
    switch (message.type) {
      case "view":
        await views.accept(message.jws, this.name);
        // The connection may have gone while the view was verified.
        if (this.#connection === undefined) views.disconnected(this.name);
        return;
      case "network":
        return await this.#options.onNetwork(message.jws);
      case "drain":
        return this.#drain(connection);
      case "observed":
        this.facts.observed(message.address);
        this.#options.logger.debug("observed_address", { relay: this.name, address: message.address });
    }
  }

  #drain(connection: ClientConnection): void {
    if (this.#connection !== connection || this.#draining) return;
    this.#draining = true;
    this.#options.logger.info("relay_draining", { relay: this.name });
    this.#options.onLost();
  }
}
