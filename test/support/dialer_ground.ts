/**
 * An agent's dialer, views and sessions over relays that live in memory: they say what a real one would, and two
 * connectors' ends of every flow are for the test to play with.
 */

import { SILENT_LOGGER } from "../../src/base/log.ts";
import type { DatagramPort, Exchange, RequestInit } from "../../src/dataplane/carrier.ts";
import { ContextDatagrams } from "../../src/dataplane/datagram/context_datagrams.ts";
import { acceptDatagramFlow } from "../../src/dataplane/datagram/open_datagram_flow.ts";
import type { SealedDatagramFlow } from "../../src/dataplane/datagram/sealed_datagram_flow.ts";
import type { FlowRefusedError } from "../../src/dataplane/errors.ts";
import type { OpenHeader } from "../../src/dataplane/open_header.ts";
import { acceptSession } from "../../src/dataplane/session.ts";
import { SessionTable } from "../../src/dataplane/session_table.ts";
import { createAuthority } from "../../src/identity/authority.ts";
import type { Identity } from "../../src/identity/identity_file.ts";
import { parseSpiffeId } from "../../src/identity/spiffe_id.ts";
import { signView, type View } from "../../src/identity/view.ts";
import { FlowDialer } from "../../src/modes/agent/flow_dialer.ts";
import { SessionPool } from "../../src/modes/agent/sessions.ts";
import type { RelayClient } from "../../src/modes/shared/relay_client.ts";
import { ViewHolder } from "../../src/modes/shared/view_holder.ts";
import { parseMasquePath } from "../../src/wire/masque/uri.ts";
import { channelPair } from "./channel_pair.ts";
import { datagramPair, MemoryDatagrams } from "./datagram_pair.ts";
import { type TestNetwork, testNetwork } from "./test_network.ts";

/** A request as the relay saw it. */
export interface SeenRequest {
  readonly protocol: string | undefined;
  readonly path: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
  /** Whether it came on a TLS connection of its own. */
  readonly isTls: boolean;
}

/** A connector's end of a flow. */
export interface FarFlow {
  readonly connector: string;
  readonly header: OpenHeader;
  readonly flow: SealedDatagramFlow;
}

/** What the ground's relay does. */
export interface DialerGroundOptions {
  /** The relay carries TLS only. */
  readonly isTlsOnly?: boolean;
  /** What it says of the largest datagram; default 1,200, `null`: nothing. */
  readonly datagramSize?: string | null;
  /** Connectors in the relay's order of preference that refuse, and what they say. */
  readonly refusals?: Readonly<Record<string, FlowRefusedError>>;
  /** Seconds in the view. */
  readonly idleTimeout?: number;
}

const CONNECTORS = ["one", "two"] as const;

/** Makes an agent that may dial `dns` at two connectors. */
export async function dialerGround(options: DialerGroundOptions = {}): Promise<DialerGround> {
  const network = await testNetwork();
  const authority = await createAuthority();
  const alice = await network.issue("agent", "alice");
  const connectors = await Promise.all(CONNECTORS.map((name) => network.issue("connector", name)));
  const trust = {
    domain: "test.example",
    roots: network.roots,
    authorities: [authority.publicJwk],
    foreign: [],
  };
  const identity = { ...alice, trust } as unknown as Identity;
  const ground = new DialerGround({
    network,
    identity,
    connectors,
    options,
    sign: (view) => signView({ authority, view }),
  });
  await ground.grant(connectors.map(({ id }) => id.uri));
  return ground;
}

type SessionIdentity = Awaited<ReturnType<TestNetwork["issue"]>>;

interface Parts {
  readonly network: TestNetwork;
  readonly identity: Identity;
  readonly connectors: readonly SessionIdentity[];
  readonly options: DialerGroundOptions;
  readonly sign: (view: View) => Promise<string>;
}

/** The dialer and all around it. */
export class DialerGround implements Disposable {
  readonly views: ViewHolder;
  readonly dialer: FlowDialer;
  readonly seen: SeenRequest[] = [];
  readonly far: FarFlow[] = [];
  readonly #parts: Parts;
  readonly #sessions = new SessionTable();
  readonly #pool: SessionPool;
  #revision = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
    const { identity, network } = parts;
    this.views = new ViewHolder({ identity: () => identity, logger: SILENT_LOGGER });
    this.#pool = new SessionPool({
      identity: () => identity,
      trust: () => ({ roots: network.roots, foreign: [] }),
      logger: SILENT_LOGGER,
    });
    this.dialer = new FlowDialer({
      relays: () => [this.#relay()],
      views: this.views,
      sessions: this.#pool,
      logger: SILENT_LOGGER,
    });
  }

  /** SPIFFE ID of a connector. */
  uri(index: 0 | 1): string {
    return this.#parts.connectors[index]!.id.uri;
  }

  /** Gives the agent a newer view, in which these connectors offer `dns`. */
  async grant(connectors: readonly string[]): Promise<void> {
    const { idleTimeout } = this.#parts.options;
    const iat = Math.floor(Date.now() / 1_000);
    const dns = {
      service: "dns",
      endToEnd: "required" as const,
      bind: connectors,
      ...(idleTimeout !== undefined && { idleTimeout }),
    };
    const rev = ++this.#revision;
    const dial = connectors.length === 0 ? [] : [dns];
    const view = { rev, sub: this.#parts.identity.id.uri, iat, exp: iat + 600, dial, bind: [] };
    await this.views.accept(await this.#parts.sign(view), "r1");
  }

  [Symbol.dispose](): void {
    this.dialer.close();
    this.#pool.close("test ended");
    for (const session of this.#sessions.values()) session.close("test ended");
    this.views.close();
  }

  #relay(): RelayClient {
    const { isTlsOnly = false } = this.#parts.options;
    const request = (isTls: boolean) => (init: RequestInit) => this.#serve(init, isTls);
    const relay = {
      name: "r1",
      authority: "r1.relay.ginnel.internal",
      connection: isTlsOnly ? undefined : {},
      tls: {
        isForced: isTlsOnly,
        isWorthwhile: true,
        take: () => Promise.resolve({ carrier: "tls", request: request(true) }),
      },
      request: request(false),
      authorization: () => Promise.resolve("Bearer proof"),
      check: () => Promise.resolve(),
    };
    return relay as unknown as RelayClient;
  }

  #serve(init: RequestInit, isTls: boolean): Promise<Exchange> {
    const path = parseMasquePath(init.path ?? "");
    const [near, far] = channelPair();
    if (path?.kind === "session") {
      const identity = this.#parts.connectors.find((each) => nameOf(each) === path.connector)!;
      void acceptSession({ channel: far, identity, roots: this.#parts.network.roots }).then((session) => {
        this.#sessions.add(session);
      });
      return Promise.resolve({ head: { status: 200, headers: new Map() }, body: near, datagrams: NO_PORT });
    }
    const headers = Object.fromEntries(init.headers ?? []);
    this.seen.push({ protocol: init.protocol, path: init.path, headers, isTls });
    const avoided = headers["ginnel-avoid"]?.split(", ") ?? [];
    const chosen = this.#parts.connectors.find((each) => !avoided.includes(nameOf(each)));
    if (chosen === undefined) {
      return Promise.resolve({ head: { status: 503, headers: new Map() }, body: near, datagrams: NO_PORT });
    }
    const { datagramSize = "1200" } = this.#parts.options;
    const [nearPort, farPort] = datagramPair(isTls ? 0 : 1_400);
    void this.#accept({ channel: far, port: new ContextDatagrams(farPort), connector: chosen, headers });
    const answer = new Map([["ginnel-connector", chosen.id.uri], ["ginnel-instance", nameOf(chosen)]]);
    if (datagramSize !== null) answer.set("ginnel-datagram-size", datagramSize);
    return Promise.resolve({ head: { status: 200, headers: answer }, body: near, datagrams: nearPort });
  }

  async #accept(
    { channel, port, connector, headers }: {
      readonly channel: ReturnType<typeof channelPair>[1];
      readonly port: DatagramPort;
      readonly connector: SessionIdentity;
      readonly headers: Readonly<Record<string, string>>;
    },
  ): Promise<void> {
    const protocol = headers["ginnel-protocol"] === "icmp" ? "icmp" as const : "udp" as const;
    const refusal = this.#parts.options.refusals?.[nameOf(connector)];
    try {
      const { header, flow } = await acceptDatagramFlow({
        channel,
        datagrams: port,
        relayed: {
          service: "dns",
          protocol,
          ...(protocol === "udp" && { port: 53 }),
          caller: this.#parts.identity.id.uri,
        },
        findSession: (id) => this.#sessions.find(id),
        authorize: () => ({ verdict: "allow" }),
        dial: () => refusal === undefined ? Promise.resolve({ abort: () => {} }) : Promise.reject(refusal),
      });
      this.far.push({ connector: connector.id.uri, header, flow });
    } catch (error) {
      // Refused as asked, or the agent gave up; the agent's end tells.
      channel.abort(error);
    }
  }
}

function nameOf({ id }: SessionIdentity): string {
  return parseSpiffeId(id.uri).name;
}

const NO_PORT = new MemoryDatagrams(0);
