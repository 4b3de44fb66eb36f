/**
 * Opens the flows of datagrams that a relay asks for, sealed ones and plain ones, and carries them until they end.
 */

import { withDeadline } from "../../base/async.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { DatagramPort } from "../../dataplane/carrier.ts";
import type { DatagramFlow } from "../../dataplane/datagram/datagram_flow.ts";
import { acceptDatagramFlow } from "../../dataplane/datagram/open_datagram_flow.ts";
import { PlainDatagramFlow } from "../../dataplane/datagram/plain_datagram_flow.ts";
import type { FlowDecision } from "../../dataplane/flow_opening.ts";
import type { Session } from "../../dataplane/session.ts";
import { encodeMessage } from "../../wire/control/framing.ts";
import type { FlowHeader } from "../../wire/control/messages.ts";
import { type DatagramUpstream, type DatagramWish, openDatagramUpstream } from "./datagram_upstream.ts";
import { joinDatagrams } from "./join_datagrams.ts";
import { plainStatus, upstreamReason, upstreamRefusal } from "./refusal.ts";
import type { OfferedService } from "./services.ts";

/** What every flow is served with. */
export interface DatagramServerOptions {
  readonly findSession: (id: string) => Session | undefined | Promise<Session | undefined>;
  readonly decide: (caller: string, service: string) => FlowDecision;
  /** Runs a flow whose right may be taken away, with the signal for that. */
  readonly live: (
    who: { readonly caller: string; readonly service: string },
    run: (signal: AbortSignal) => Promise<void>,
  ) => Promise<void>;
  /** Milliseconds a flow may take to open. */
  readonly openingTimeout: number;
  readonly logger: Logger;
}

/** A flow asked for. */
export interface DatagramRequest {
  readonly channel: ByteChannel;
  readonly header: FlowHeader;
  readonly service: OfferedService;
  /** The flow's datagrams, with nothing in front of them. */
  readonly datagrams: DatagramPort;
}

/** Serves flows of datagrams. */
export class DatagramServer {
  readonly #options: DatagramServerOptions;

  constructor(options: DatagramServerOptions) {
    this.#options = options;
  }

  /** Serves one flow, whose service has counted it in, until it ends. */
  async serve(request: DatagramRequest): Promise<void> {
    if (request.header.sealed) await this.#serveSealed(request);
    else await this.#servePlain(request);
  }

  async #serveSealed({ channel, header, service, datagrams }: DatagramRequest): Promise<void> {
    const { findSession, decide, openingTimeout } = this.#options;
    await channel.write(encodeMessage({ status: 200 }));
    const { flow, upstream, header: { caller } } = await withDeadline(
      openingTimeout,
      (signal) =>
        acceptDatagramFlow({
          channel,
          datagrams,
          relayed: {
            service: service.name,
            protocol: header.protocol,
            caller: header.caller,
            ...(header.port === undefined ? {} : { port: header.port }),
          },
          findSession,
          authorize: (open) => decide(open.caller, open.service),
          dial: (open, signal) => dialForFlow(service, open, signal),
          signal,
        }),
    );
    await this.#carry(flow, upstream, { caller, service });
  }

  async #servePlain({ channel, header, service, datagrams }: DatagramRequest): Promise<void> {
    const { openingTimeout, logger } = this.#options;
    let upstream: DatagramUpstream;
    try {
      upstream = await withDeadline(
        openingTimeout,
        (signal) => openDatagramUpstream(service, header, signal),
      );
    } catch (error) {
      logger.info("upstream_failed", { service: service.name, detail: errorMessage(error) });
      await channel.write(encodeMessage({ status: plainStatus(upstreamReason(error)) }));
      return await channel.closeWrite();
    }
    const flow = new PlainDatagramFlow(channel, datagrams);
    try {
      await channel.write(encodeMessage({ status: 200 }));
    } catch (error) {
      upstream.abort();
      throw error;
    }
    await this.#carry(flow, upstream, { caller: header.caller, service });
  }

  async #carry(
    flow: DatagramFlow,
    upstream: DatagramUpstream,
    { caller, service }: { readonly caller: string; readonly service: OfferedService },
  ): Promise<void> {
    const who = { caller, service: service.name };
    await this.#options.live(who, async (signal) => {
      const { idleTimeout } = service;
      const end = await joinDatagrams(flow, upstream, { signal, idleTimeout, refusal: upstreamRefusal });
      if (end instanceof Error) {
        this.#options.logger.debug("flow_broken", { ...who, detail: errorMessage(end) });
      }
    });
  }
}

async function dialForFlow(
  service: OfferedService,
  wish: DatagramWish,
  signal: AbortSignal,
): Promise<DatagramUpstream> {
  try {
    return await openDatagramUpstream(service, wish, signal);
  } catch (error) {
    throw upstreamRefusal(error);
  }
}
