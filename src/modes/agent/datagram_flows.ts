/**
 * Flows of datagrams for local clients, one to a key. The first datagram opens the flow; those that come while it opens
 * wait, a few of them.
 */

import { errorCode } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { DatagramFlow } from "../../dataplane/datagram/datagram_flow.ts";
import { type ConnectDatagrams, type DatagramTarget, flowFailure } from "./local_flow.ts";

/** Datagrams that wait for their flow to open; the newest beyond are dropped. At most 1 MiB for each flow that opens. */
const MAX_WAITING = 16;

/** Milliseconds for which a client that was refused is not asked for again: it may send thousands a second. */
const REFUSAL_MS = 1_000;

/** What the flows need. */
export interface DatagramFlowsOptions {
  readonly connect: ConnectDatagrams;
  readonly logger: Logger;
  /** Flows at once; a client beyond them gets none. */
  readonly maxFlows: number;
}

/** Where the flow of a new key leads, and who gets what comes back. */
export interface DatagramClient {
  readonly target: DatagramTarget;
  /** Takes a payload, which is valid until this returns. */
  readonly receive: (payload: Uint8Array<ArrayBuffer>) => void;
}

/** The flows of one local socket. */
export class DatagramFlows {
  readonly #options: DatagramFlowsOptions;
  readonly #entries = new Map<string, Entry>();
  #isClosed = false;

  constructor(options: DatagramFlowsOptions) {
    this.#options = options;
  }

  /** Flows open or opening, and refusals that are remembered. */
  get size(): number {
    return this.#entries.size;
  }

  /** Sends a datagram on the flow of `key`; `begin` tells of a key that has none where it leads, if anywhere. */
  send(key: string, bytes: Uint8Array<ArrayBuffer>, begin: () => DatagramClient | undefined): void {
    const entry = this.#entries.get(key) ?? this.#begin(key, begin);
    if (entry === undefined) return;
    if (entry.flow !== undefined) entry.flow.send(bytes, 0, bytes.length);
    else if (!entry.isRefused && entry.waiting.length < MAX_WAITING) entry.waiting.push(bytes.slice());
  }

  /** Ends every flow. Idempotent. */
  close(reason?: unknown): void {
    this.#isClosed = true;
    for (const entry of this.#entries.values()) {
      clearTimeout(entry.forgetting);
      entry.ending.abort(reason);
      entry.flow?.close(reason);
    }
    this.#entries.clear();
  }

  #begin(key: string, begin: () => DatagramClient | undefined): Entry | undefined {
    const { maxFlows, logger } = this.#options;
    if (this.#isClosed) return undefined;
    if (this.#entries.size >= maxFlows) {
      logger.debug("too_many_datagram_flows", { limit: maxFlows });
      return undefined;
    }
    const client = begin();
    if (client === undefined) return undefined;
    const entry: Entry = {
      ending: new AbortController(),
      waiting: [],
      flow: undefined,
      isRefused: false,
      forgetting: undefined,
    };
    this.#entries.set(key, entry);
    void this.#open(key, { entry, client });
    return entry;
  }

  async #open(
    key: string,
    { entry, client }: { readonly entry: Entry; readonly client: DatagramClient },
  ): Promise<void> {
    const { connect, logger } = this.#options;
    const { signal } = entry.ending;
    let flow: DatagramFlow;
    try {
      flow = await connect(client.target, { signal });
    } catch (error) {
      if (signal.aborted) return;
      const { service } = client.target;
      logger.debug("datagram_flow_refused", { service, code: errorCode(error), ...flowFailure(error) });
      entry.isRefused = true;
      entry.waiting.length = 0;
      entry.forgetting = setTimeout(() => this.#forget(key, entry), REFUSAL_MS);
      return;
    }
    if (signal.aborted) return flow.close(signal.reason);
    flow.receive(client.receive);
    entry.flow = flow;
    for (const bytes of entry.waiting) flow.send(bytes, 0, bytes.length);
    entry.waiting.length = 0;
    await flow.closed;
    this.#forget(key, entry);
  }

  #forget(key: string, entry: Entry): void {
    if (this.#entries.get(key) === entry) this.#entries.delete(key);
  }
}

interface Entry {
  readonly ending: AbortController;
  readonly waiting: Uint8Array<ArrayBuffer>[];
  flow: DatagramFlow | undefined;
  isRefused: boolean;
  forgetting: ReturnType<typeof setTimeout> | undefined;
}
