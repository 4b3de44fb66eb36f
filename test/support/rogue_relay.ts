/**
 * A relay in enemy hands: it has a relay's genuine identity and speaks its side of the protocol to real nodes over
 * real QUIC, but checks no proof and no policy, and each test may replace what it does. Of the authority it has
 * only what the test gives it: views that were signed once.
 */

import type { ByteChannel } from "../../src/base/channel.ts";
import { utf8 } from "../../src/base/bytes.ts";
import type { ServerConnection, ServerRequest, WebTransportSession } from "../../src/dataplane/carrier.ts";
import { bridgedSize } from "../../src/dataplane/datagram_bridge.ts";
import { FlowDatagrams } from "../../src/dataplane/flow_datagrams.ts";
import { splice } from "../../src/dataplane/splice.ts";
import { loadIdentity } from "../../src/identity/identity_file.ts";
import { listenQuic, type QuicListener } from "../../src/io/quic/listener.ts";
import { MessageWriter, readFirstMessage, readMessages } from "../../src/modes/shared/message_channel.ts";
import { prefixedChannel } from "../../src/modes/shared/prefixed_channel.ts";
import {
  CONNECTOR_HEADER,
  DATAGRAM_SIZE_HEADER,
  INSTANCE_HEADER,
  PROTOCOL_HEADER,
  SEALED_HEADER,
} from "../../src/modes/shared/relay_protocol.ts";
import { encodeMessage } from "../../src/wire/control/framing.ts";
import { controlMessageSchema, type FlowHeader, flowStatusSchema } from "../../src/wire/control/messages.ts";
import { parseMasquePath } from "../../src/wire/masque/uri.ts";
import { decodeJwt } from "jose";
import { type Network, spiffeId } from "./network.ts";
import { SILENT } from "./relay_caller.ts";
import { RogueDatagrams } from "./rogue_datagrams.ts";

/** A connector connected to the rogue. */
export interface RogueLink {
  readonly name: string;
  readonly uri: string;
  readonly instance: string;
  readonly session: WebTransportSession;
  readonly datagrams: FlowDatagrams;
  readonly services: Set<string>;
}

/** A flow that both ends have agreed to; its streams are the rogue's. */
export interface RogueFlow {
  /** Counted from 0. */
  readonly index: number;
  readonly header: FlowHeader;
  readonly agent: ByteChannel;
  readonly connector: ByteChannel;
  /** Of flows of datagrams. */
  readonly datagrams: RogueDatagrams | undefined;
}

/** What a rogue does otherwise than an honest relay. */
export interface RogueBehaviour {
  /** Views it shows a node (a SPIFFE ID) first; default none. */
  views?: (who: string) => readonly string[];
  /** What it tells the connector of a flow or session. */
  header?: (header: FlowHeader) => FlowHeader;
  /** The connector a flow (`service` given) or session really goes to, of those it told the agent to expect. */
  lead?: (link: RogueLink, header: FlowHeader) => RogueLink;
  /** The connector it names to the agent. */
  name?: (link: RogueLink) => { readonly uri: string; readonly instance: string };
  /** Serves the session itself instead of carrying it. */
  session?: (body: ByteChannel, link: RogueLink) => Promise<unknown>;
  /** Carries a flow. */
  carry?: (flow: RogueFlow) => Promise<unknown>;
}

/** A running rogue; disposing it ends every connection. */
export class RogueRelay implements AsyncDisposable {
  readonly name: string;
  readonly port: number;
  /** Assign to its fields to change what it does from now on. */
  readonly behaviour: RogueBehaviour;
  /** What connectors answered to flows and sessions, in order. */
  readonly statuses: number[] = [];
  readonly #listener: QuicListener;
  readonly #links = new Map<string, RogueLink>();
  readonly #viewers = new Map<string, ByteChannel>();
  readonly #work = new Set<Promise<unknown>>();
  #flows = 0;

  /** Takes the identity `relay-1` of the network, or another name, and listens. */
  static async start(
    network: Pick<Network, "issue">,
    behaviour: RogueBehaviour = {},
    { name = "relay-1", port = 0 }: { readonly name?: string; readonly port?: number } = {},
  ): Promise<RogueRelay> {
    const identity = await loadIdentity(await network.issue("relay", name));
    const listener = await listenQuic({
      hostname: "127.0.0.1",
      port,
      cert: identity.certificatePem,
      key: identity.privateKeyPem,
      logger: SILENT,
    });
    return new RogueRelay({ name, behaviour, listener });
  }

  private constructor(
    parts: { readonly name: string; readonly behaviour: RogueBehaviour; readonly listener: QuicListener },
  ) {
    this.name = parts.name;
    this.behaviour = parts.behaviour;
    this.port = parts.listener.port;
    this.#listener = parts.listener;
    this.#track(this.#accept());
  }

  /** The connector of that name; fails when it is not connected. */
  link(name: string): RogueLink {
    const link = this.#links.get(name);
    if (link === undefined) throw new Error(`No connector ${name} at the rogue relay`);
    return link;
  }

  /** Shows a node more lines on its view stream. */
  async show(who: string, ...lines: readonly string[]): Promise<void> {
    const viewer = this.#viewers.get(who);
    if (viewer === undefined) throw new Error(`${who} does not listen for views`);
    for (const line of lines) await viewer.write(utf8(line + "\n"));
  }

  /** Opens a stream to a connector, as relays do, and leaves it to the caller what it carries. */
  openStream(connector: string): Promise<ByteChannel> {
    return this.link(connector).session.openStream();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#listener.close();
    await Promise.all(this.#work);
  }

  async #accept(): Promise<void> {
    for await (const connection of this.#listener.connections()) this.#track(this.#serve(connection));
  }

  async #serve(connection: ServerConnection): Promise<void> {
    connection.setAuthenticated();
    let who = "";
    for await (const request of connection.requests()) {
      const proof = /^Bearer (.+)$/.exec(request.head.headers.get("authorization") ?? "")?.[1];
      if (proof !== undefined) who = decodeJwt(proof).sub ?? "";
      this.#track(this.#handle(request, who));
    }
  }

  async #handle(request: ServerRequest, who: string): Promise<void> {
    const path = parseMasquePath(request.head.path ?? "");
    switch (path?.kind) {
      case "view":
        return await this.#serveView(request, who);
      case "connector":
        return await this.#serveConnector(request, who);
      case "session":
        return await this.#serveSession(request, { who, connector: path.connector });
      case "tcp":
      case "udp":
        return await this.#serveFlow(request, { who, ...path });
    }
    await request.respond({ status: 404 }, { end: true });
  }

  async #serveView(request: ServerRequest, who: string): Promise<void> {
    const body = await request.respond({ status: 200 });
    this.#viewers.set(who, body);
    await this.show(who, ...(this.behaviour.views?.(who) ?? []).map(viewLine));
  }

  async #serveConnector(request: ServerRequest, who: string): Promise<void> {
    const instance = request.head.headers.get(INSTANCE_HEADER) ?? "";
    const session = await request.connection.acceptWebTransport(request);
    const name = who.slice(who.lastIndexOf("/") + 1);
    const datagrams = new FlowDatagrams(session.datagrams);
    const link: RogueLink = { name, uri: who, instance, session, datagrams, services: new Set() };
    this.#links.set(name, link);
    const { value: control } = await session.incomingStreams()[Symbol.asyncIterator]().next();
    if (control === undefined) return;
    const writer = new MessageWriter(control);
    for await (const message of readMessages(control, controlMessageSchema)) {
      if (message.type !== "bind") continue;
      for (const { name: service } of message.services) {
        link.services.add(service);
        await writer.send({ type: "bound", service, ok: true });
      }
    }
  }

  async #serveSession(
    request: ServerRequest,
    { who, connector }: { readonly who: string; readonly connector: string },
  ): Promise<void> {
    const wanted = this.link(connector);
    if (this.behaviour.session !== undefined) {
      await this.behaviour.session(await request.respond({ status: 200 }), wanted);
      return;
    }
    const header: FlowHeader = {
      v: 1,
      kind: "session",
      flow: "0",
      protocol: "tcp",
      caller: who,
      sealed: true,
    };
    const opened = await this.#open(wanted, header);
    if (typeof opened === "number") return void await request.respond({ status: 502 }, { end: true });
    await splice(await request.respond({ status: 200 }), opened.channel);
  }

  async #serveFlow(
    request: ServerRequest,
    { who, host: service, port, kind }: {
      readonly who: string;
      readonly host: string;
      readonly port: number;
      readonly kind: "tcp" | "udp";
    },
  ): Promise<void> {
    const { headers } = request.head;
    const protocol = kind === "udp" && headers.get(PROTOCOL_HEADER) === "icmp" ? "icmp" : kind;
    const link = [...this.#links.values()].find(({ services }) => services.has(service));
    if (link === undefined) return void await request.respond({ status: 503 }, { end: true });
    const index = this.#flows++;
    const maxDatagram = kind === "udp" ? bridgedSize(request.datagrams, link.datagrams) : undefined;
    const opened = await this.#open(link, {
      v: 1,
      kind: "flow",
      flow: String(index),
      service,
      ...(protocol === "icmp" ? {} : { port }),
      protocol,
      ...(maxDatagram === undefined ? {} : { maxDatagram }),
      caller: who,
      sealed: headers.get(SEALED_HEADER) === "?1",
    });
    if (typeof opened === "number") return void await request.respond({ status: 502 }, { end: true });
    const { uri, instance } = this.behaviour.name?.(link) ?? link;
    const agent = await request.respond({
      status: 200,
      headers: [[CONNECTOR_HEADER, uri], [INSTANCE_HEADER, instance], [
        DATAGRAM_SIZE_HEADER,
        `${maxDatagram ?? 0}`,
      ]],
    });
    // The id stays taken, so that flows can be spoken for that have ended.
    const far = kind === "udp" ? opened.link.datagrams.open(Number(opened.header.flow)) : undefined;
    const datagrams = far && new RogueDatagrams(request.datagrams, far);
    const flow: RogueFlow = { index, header: opened.header, agent, connector: opened.channel, datagrams };
    await (this.behaviour.carry?.(flow) ?? splice(agent, opened.channel));
  }

  /** Opens a stream to a connector; a number is its refusal. */
  async #open(
    wanted: RogueLink,
    wish: FlowHeader,
  ): Promise<
    number | { readonly channel: ByteChannel; readonly header: FlowHeader; readonly link: RogueLink }
  > {
    const link = this.behaviour.lead?.(wanted, wish) ?? wanted;
    const header = this.behaviour.header?.(wish) ?? wish;
    const stream = await link.session.openStream();
    await stream.write(encodeMessage(header));
    const { message, rest } = await readFirstMessage(stream, flowStatusSchema);
    this.statuses.push(message.status);
    if (message.status === 200) return { channel: prefixedChannel(stream, rest), header, link };
    stream.abort();
    return message.status;
  }

  /** What fails ends in the nodes' faces, where tests look. */
  #track(work: Promise<unknown>): void {
    const done = work.catch(() => {}).finally(() => this.#work.delete(done));
    this.#work.add(done);
  }
}

/** A signed view as a line of the view stream. */
export function viewLine(jws: string): string {
  return JSON.stringify({ type: "view", jws });
}

/** Rights of one identity, by the names of its peers. */
export interface Rights {
  readonly who: string;
  /** Service to connectors. */
  readonly dial?: Readonly<Record<string, readonly string[]>>;
  /** Service to agents. */
  readonly bind?: Readonly<Record<string, readonly string[]>>;
}

/** The claims of a view, as an authority states them. */
export function viewOf(rights: Rights, { rev = 1, ageSeconds = 0, ttlSeconds = 3_600 } = {}) {
  const { who, dial = {}, bind = {} } = rights;
  const iat = Math.floor(Date.now() / 1_000) - ageSeconds;
  const endToEnd = "required" as const;
  return {
    rev,
    sub: who,
    iat,
    exp: iat + ttlSeconds,
    dial: Object.entries(dial).map(([service, names]) => ({
      service,
      endToEnd,
      bind: names.map((name) => spiffeId("connector", name)),
    })),
    bind: Object.entries(bind).map(([service, names]) => ({
      service,
      endToEnd,
      dial: names.map((name) => spiffeId("agent", name)),
    })),
  };
}
