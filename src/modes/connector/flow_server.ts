/**
 * What a connector does with a stream from a relay: makes an end-to-end session, or authenticates, authorizes and
 * serves one flow. The relay's word alone opens nothing: the view decides, and for sealed flows the caller's own
 * certificate.
 */

import { withDeadline } from "../../base/async.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { FlowRefusedError } from "../../dataplane/errors.ts";
import { acceptFlow } from "../../dataplane/flow.ts";
import type { FlowDatagrams } from "../../dataplane/flow_datagrams.ts";
import type { FlowDecision } from "../../dataplane/flow_opening.ts";
import { acceptSession } from "../../dataplane/session.ts";
import { SessionTable } from "../../dataplane/session_table.ts";
import type { SessionTrust } from "../../dataplane/session_trust.ts";
import { splice } from "../../dataplane/splice.ts";
import type { Identity } from "../../identity/identity_file.ts";
import { encodeMessage } from "../../wire/control/framing.ts";
import { type FlowHeader, flowHeaderSchema } from "../../wire/control/messages.ts";
import { readFirstMessage } from "../shared/message_channel.ts";
import { prefixedChannel } from "../shared/prefixed_channel.ts";
import type { ViewHolder } from "../shared/view_holder.ts";
import { DatagramServer } from "./datagram_server.ts";
import { plainStatus, upstreamReason, upstreamRefusal } from "./refusal.ts";
import type { CallerWish, OfferedService } from "./services.ts";

/** What serving flows needs. */
export interface FlowServerOptions {
  readonly identity: () => Identity;
  /** Whom to trust now. */
  readonly trust: () => SessionTrust;
  readonly views: ViewHolder;
  readonly services: ReadonlyMap<string, OfferedService>;
  readonly logger: Logger;
}

/** Milliseconds for a stream's header, a session's handshake, and a flow's opening. */
const OPENING_TIMEOUT_MS = 10_000;

/** Milliseconds to wait for a view that already knows a caller the relay has just admitted. */
const VIEW_WAIT_MS = 1_000;

/** Sessions held at once: one for each agent process, some 40 KB each. */
const MAX_SESSIONS = 10_000;

const NOT_ALLOWED = "The view no longer allows this flow";

/** Serves the streams of all relays. */
export class FlowServer {
  readonly #options: FlowServerOptions;
  readonly #sessions = new SessionTable();
  readonly #live = new Set<LiveFlow>();
  readonly #datagrams: DatagramServer;

  constructor(options: FlowServerOptions) {
    this.#options = options;
    this.#datagrams = new DatagramServer({
      findSession: (id) => this.#sessions.find(id),
      decide: (caller, service) => this.#decide(caller, service),
      live: (who, run) => this.#run(who, run),
      openingTimeout: OPENING_TIMEOUT_MS,
      logger: options.logger,
    });
    options.views.onChange(() => this.#viewChanged());
  }

  /** Flows being served now. */
  get size(): number {
    return this.#live.size;
  }

  /** Serves one stream of a relay until it ends, with the session's datagrams where there are any. Never rejects. */
  async serve(stream: ByteChannel, datagrams?: FlowDatagrams): Promise<void> {
    const timer = setTimeout(() => stream.abort(new Error("no header in time")), OPENING_TIMEOUT_MS);
    try {
      const { message, rest } = await readFirstMessage(stream, flowHeaderSchema);
      clearTimeout(timer);
      const channel = prefixedChannel(stream, rest);
      if (message.kind === "session") await this.#serveSession(channel);
      else await this.#serveFlow(channel, message, datagrams);
    } catch (error) {
      clearTimeout(timer);
      stream.abort(error);
      this.#options.logger.info("stream_refused", { detail: errorMessage(error) });
    }
  }

  /** We hold a newer certificate: the sessions live on with it. */
  renew(): void {
    for (const session of this.#sessions.values()) session.renew(this.#options.identity());
  }

  /** Trust has changed: ends the sessions whose callers would not be let in any more. */
  recheck(): void {
    for (const session of this.#sessions.values()) session.recheck();
  }

  /** Ends all sessions and flows. */
  close(reason: string): void {
    for (const flow of this.#live) flow.abort.abort(new Error(reason));
    for (const session of this.#sessions.values()) session.close(reason);
  }

  async #serveSession(channel: ByteChannel): Promise<void> {
    if (this.#sessions.size >= MAX_SESSIONS) return await answer(channel, 503);
    await channel.write(encodeMessage({ status: 200 }));
    const { identity, trust } = this.#options;
    const session = await withDeadline(
      OPENING_TIMEOUT_MS,
      (signal) => acceptSession({ channel, identity: identity(), ...trust(), trust, signal }),
    );
    this.#sessions.add(session);
    // Either may have changed while the session was made.
    session.renew(identity());
    session.recheck();
    this.#options.logger.debug("session_opened", { peer: session.peer.uri });
  }

  async #serveFlow(
    channel: ByteChannel,
    header: FlowHeader,
    datagrams: FlowDatagrams | undefined,
  ): Promise<void> {
    const name = header.service ?? "";
    const service = this.#options.services.get(name);
    if (service === undefined) return await answer(channel, 404);
    if (!service.isHealthy || !service.enter()) return await answer(channel, 503);
    try {
      // The relay may have admitted this caller a moment before its view reaches us.
      await this.#options.views.waitFor(() => this.#allows(header.caller, name), VIEW_WAIT_MS);
      if (header.protocol !== "tcp") await this.#serveDatagrams({ channel, header, service }, datagrams);
      else if (header.sealed) await this.#serveSealed(channel, header, service);
      else await this.#servePlain(channel, header, service);
    } finally {
      service.leave();
    }
  }

  async #serveDatagrams(
    { channel, header, service }: {
      readonly channel: ByteChannel;
      readonly header: FlowHeader;
      readonly service: OfferedService;
    },
    session: FlowDatagrams | undefined,
  ): Promise<void> {
    const { caller, protocol, sealed, flow, maxDatagram: limit = 0 } = header;
    const isOptional = protocol === "udp" && this.#options.views.isPlainAllowed(service.name);
    if (!sealed && !(isOptional && this.#allows(caller, service.name))) return await answer(channel, 403);
    const datagrams = session?.open(Number(flow), { limit });
    // A relay gives each flow of a session an id of its own, on a stream of that session.
    if (datagrams === undefined) return await answer(channel, 400);
    try {
      await this.#datagrams.serve({ channel, header, service, datagrams });
    } finally {
      datagrams.end();
    }
  }

  async #serveSealed(channel: ByteChannel, header: FlowHeader, service: OfferedService): Promise<void> {
    await channel.write(encodeMessage({ status: 200 }));
    const accepted = await withDeadline(OPENING_TIMEOUT_MS, (signal) =>
      acceptFlow({
        channel,
        relayed: {
          service: service.name,
          protocol: "tcp",
          caller: header.caller,
          ...(header.port === undefined ? {} : { port: header.port }),
        },
        findSession: (id) => this.#sessions.find(id),
        authorize: (open) => this.#decide(open.caller, open.service),
        dial: (open, signal) => dialForFlow(service, open, signal),
        signal,
      }));
    await this.#carry(accepted.channel, accepted.upstream, {
      caller: accepted.header.caller,
      service: service.name,
    });
  }

  async #servePlain(channel: ByteChannel, header: FlowHeader, service: OfferedService): Promise<void> {
    const optional = this.#options.views.isPlainAllowed(service.name);
    if (!optional || !this.#allows(header.caller, service.name)) return await answer(channel, 403);
    let upstream: ByteChannel;
    try {
      upstream = await withDeadline(OPENING_TIMEOUT_MS, (signal) => service.dial(header, signal));
    } catch (error) {
      this.#options.logger.info("upstream_failed", { service: service.name, detail: errorMessage(error) });
      return await answer(channel, plainStatus(upstreamReason(error)));
    }
    await channel.write(encodeMessage({ status: 200 }));
    await this.#carry(channel, upstream, { caller: header.caller, service: service.name });
  }

  async #carry(
    channel: ByteChannel,
    upstream: ByteChannel,
    who: { caller: string; service: string },
  ): Promise<void> {
    await this.#run(who, async (signal) => {
      const result = await splice(channel, upstream, { signal });
      if (result.outcome === "closed") return;
      this.#options.logger.debug("flow_broken", {
        ...who,
        outcome: result.outcome,
        detail: errorMessage(result.error),
      });
    });
  }

  /** Runs a flow that counts as live, and ends when the view no longer allows it. */
  async #run(
    who: { readonly caller: string; readonly service: string },
    run: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const flow: LiveFlow = { ...who, abort: new AbortController() };
    this.#live.add(flow);
    // The view may have changed while the upstream was dialled.
    if (!this.#allows(who.caller, who.service)) flow.abort.abort(new FlowRefusedError("denied", NOT_ALLOWED));
    await run(flow.abort.signal);
    this.#live.delete(flow);
  }

  #allows(caller: string, service: string): boolean {
    return this.#options.views.mayServe(service, caller);
  }

  #decide(caller: string, service: string): FlowDecision {
    return this.#allows(caller, service)
      ? { verdict: "allow" }
      : { verdict: "deny", reason: "no valid view allows this caller" };
  }

  #viewChanged(): void {
    for (const flow of this.#live) {
      if (!this.#allows(flow.caller, flow.service)) {
        flow.abort.abort(new FlowRefusedError("denied", NOT_ALLOWED));
      }
    }
    const { peers } = this.#options.views;
    for (const session of this.#sessions.values()) {
      if (!peers.has(session.peer.uri)) session.close("the view no longer knows this caller");
    }
  }
}

interface LiveFlow {
  readonly caller: string;
  readonly service: string;
  readonly abort: AbortController;
}

async function answer(channel: ByteChannel, status: number): Promise<void> {
  await channel.write(encodeMessage({ status }));
  await channel.closeWrite();
}

async function dialForFlow(
  service: OfferedService,
  wish: CallerWish,
  signal: AbortSignal,
): Promise<ByteChannel> {
  try {
    return await service.dial(wish, signal);
  } catch (error) {
    throw upstreamRefusal(error);
  }
}
