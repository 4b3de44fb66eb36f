/**
 * Asks connectors for flows and sessions, and remembers which of them do not answer.
 */

import { DeadlineError } from "../../base/async.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { race } from "../../base/race.ts";
import { SilentPeers } from "../shared/silent_peers.ts";
import type { ConnectorLink } from "./connector_link.ts";
import { type Refusal, REFUSALS } from "./refusal.ts";

/** Milliseconds a connector may take to answer a sealed flow or a session, which it does before it dials. */
const ANSWER_TIMEOUT_MS = 3_000;

/** Milliseconds a connector may take to answer any other flow: longer than its own upstream time-out. */
const UPSTREAM_TIMEOUT_MS = 12_000;

/** Milliseconds after which a connector that answers before it dials counts as slow: the next one is asked beside it. */
const SLOW_MS = 500;

/** A connector that gives no flow, and what the caller is told; without that, this connector alone does not count. */
export class ConnectorRefusal extends Error {
  override readonly name = "ConnectorRefusal";

  readonly refusal: Refusal | undefined;

  constructor(refusal: Refusal | undefined) {
    super(refusal?.details ?? "the connector does not offer this service any more");
    this.refusal = refusal;
  }
}

/** What a caller is told after the attempts at some connectors failed; throws what was no refusal. */
export function lastRefusal(error: unknown): Refusal {
  const errors: readonly unknown[] = error instanceof AggregateError ? error.errors : [error];
  let last: Refusal = REFUSALS.noConnector;
  for (const each of errors) {
    if (!(each instanceof ConnectorRefusal)) throw each;
    last = each.refusal ?? last;
    if (last === REFUSALS.tooManyFlows) break;
  }
  return last;
}

/** Asks connectors. */
export class ConnectorAsker {
  readonly #logger: Logger;
  readonly #silent = new SilentPeers<ConnectorLink>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** The connectors in the given order, but those that did not answer lately last. */
  inOrder(links: ConnectorLink[]): ConnectorLink[] {
    return this.#silent.last(links);
  }

  /**
   * The first that `attempt` makes at one of the connectors; the next is asked when one refuses or, where several may be
   * asked at once, is slow. Rejects with an `AggregateError` of what the attempts rejected with, in order.
   */
  first<T>(
    links: readonly ConnectorLink[],
    options: {
      readonly isSealed: boolean;
      readonly attempt: (link: ConnectorLink) => Promise<T>;
      readonly discard: (late: T) => void;
    },
  ): Promise<T> {
    // Connectors dial for flows that are not sealed: of those, one after the other.
    const patience = options.isSealed ? SLOW_MS : UPSTREAM_TIMEOUT_MS;
    return race(links, { ...options, signal: NEVER, headStart: () => patience });
  }

  /** Asks; a refusal says why there is no stream. */
  async ask(
    link: ConnectorLink,
    header: Parameters<ConnectorLink["open"]>[0],
  ): Promise<{ channel: ByteChannel } | Refusal> {
    const timeout = header.sealed ? ANSWER_TIMEOUT_MS : UPSTREAM_TIMEOUT_MS;
    const slow = header.sealed ? setTimeout(() => this.#silent.add(link), SLOW_MS) : undefined;
    try {
      const { status, channel } = await link.open(header, { timeout });
      this.#silent.delete(link);
      if (status === 200) return { channel };
      channel.abort();
      return STATUS_REFUSALS[status] ?? REFUSALS.upstreamRefused;
    } catch (error) {
      this.#logger.debug("connector_unreachable", {
        connector: link.id.uri,
        detail: errorMessage(error),
      });
      if (!(error instanceof DeadlineError)) return REFUSALS.noConnector;
      this.#silent.add(link);
      return REFUSALS.upstreamTimeout;
    } finally {
      clearTimeout(slow);
    }
  }
}

const NEVER = new AbortController().signal;

/** A connector's status, told to the caller: 403 and 503 by the connector mean it will not serve this flow now. */
const STATUS_REFUSALS: Readonly<Record<number, Refusal>> = {
  403: REFUSALS.denied,
  404: REFUSALS.denied,
  502: REFUSALS.upstreamRefused,
  503: REFUSALS.noConnector,
  504: REFUSALS.upstreamTimeout,
};
