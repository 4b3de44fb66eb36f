/**
 * Asks connectors for flows and sessions, and remembers which of them do not answer.
 */

import { DeadlineError } from "../../base/async.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { SilentPeers } from "../shared/silent_peers.ts";
import type { ConnectorLink } from "./connector_link.ts";
import { type Refusal, REFUSALS } from "./refusal.ts";

/** Milliseconds a connector may take to answer a sealed flow or a session, which it does before it dials. */
const ANSWER_TIMEOUT_MS = 3_000;

/** Milliseconds a connector may take to answer any other flow: longer than its own upstream time-out. */
const UPSTREAM_TIMEOUT_MS = 12_000;

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

  /** Asks; a refusal says why there is no stream. */
  async ask(
    link: ConnectorLink,
    header: Parameters<ConnectorLink["open"]>[0],
  ): Promise<{ channel: ByteChannel } | Refusal> {
    const timeout = header.sealed ? ANSWER_TIMEOUT_MS : UPSTREAM_TIMEOUT_MS;
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
    }
  }
}

/** A connector's status, told to the caller: 403 and 503 by the connector mean it will not serve this flow now. */
const STATUS_REFUSALS: Readonly<Record<number, Refusal>> = {
  403: REFUSALS.denied,
  404: REFUSALS.denied,
  502: REFUSALS.upstreamRefused,
  503: REFUSALS.noConnector,
  504: REFUSALS.upstreamTimeout,
};
