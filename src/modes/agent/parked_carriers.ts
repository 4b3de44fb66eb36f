/**
 * TLS connections to one relay that are dialled and admitted beforehand, so that a new flow waits for neither. Kept
 * only while flows come; an idle agent holds none.
 */

import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { AGENT_PATH } from "../../wire/masque/uri.ts";
import type { RelayClient } from "../shared/relay_client.ts";
import { PARK_PROTOCOL } from "../shared/relay_protocol.ts";

/** Connections kept ready: as many flows start at once without a dial. About 60 KB each at the relay. */
const SIZE = 8;

/** Milliseconds one waits for a flow. */
const LIFETIME_MS = 60_000;

/** The connections parked at one relay. */
export class ParkedCarriers {
  readonly #relay: RelayClient;
  readonly #logger: Logger;
  readonly #ready: Parked[] = [];
  #filling = false;
  #closed = false;

  constructor(relay: RelayClient, logger: Logger) {
    this.#relay = relay;
    this.#logger = logger;
  }

  /** A connection on which a flow can be asked for, if one is ready; others are made in the meantime. */
  take(): ByteChannel | undefined {
    const parked = this.#ready.shift();
    if (!this.#relay.tls.isForced) void this.#fill();
    if (parked === undefined) return undefined;
    clearTimeout(parked.timer);
    return parked.body;
  }

  close(): void {
    this.#closed = true;
    this.drop();
  }

  /** Lets go of those that are ready: they lead nowhere. */
  drop(): void {
    for (const { body, timer } of this.#ready.splice(0)) {
      clearTimeout(timer);
      body.abort();
    }
  }

  async #fill(): Promise<void> {
    if (this.#filling) return;
    this.#filling = true;
    try {
      while (this.#ready.length < SIZE) {
        const body = await this.#park();
        if (body === undefined) break;
        if (this.#closed) return body.abort();
        const parked: Parked = { body, timer: setTimeout(() => this.#drop(parked), LIFETIME_MS) };
        this.#ready.push(parked);
      }
    } catch (error) {
      this.#logger.debug("parking_failed", { relay: this.#relay.name, detail: errorMessage(error) });
    } finally {
      this.#filling = false;
    }
  }

  async #park(): Promise<ByteChannel | undefined> {
    const carrier = await this.#relay.tls.take();
    if (carrier === undefined) return undefined;
    const { head, body } = await carrier.request({
      method: "CONNECT",
      protocol: PARK_PROTOCOL,
      scheme: "https",
      authority: this.#relay.authority,
      path: AGENT_PATH,
      headers: [["authorization", await this.#relay.authorization()]],
    });
    if (head.status === 200) return body;
    body.abort();
    return undefined;
  }

  #drop(parked: Parked): void {
    const index = this.#ready.indexOf(parked);
    if (index >= 0) this.#ready.splice(index, 1);
    parked.body.abort();
  }
}

interface Parked {
  readonly body: ByteChannel;
  readonly timer: ReturnType<typeof setTimeout>;
}
