/** A hub with real policy and flows over a device and links in memory: alice, bob and carol, and a clock to turn. */

import assert from "node:assert/strict";
import { type IpAddress, type IpPrefix, parsePrefix, prefixRange } from "../../../src/base/ip.ts";
import type { EgressAction, EgressIdentity, EgressRule } from "../../../src/core/egress/document.ts";
import { EgressEngine } from "../../../src/core/egress/engine.ts";
import type { FlowEntry } from "../../../src/core/egress/flow.ts";
import { compileEgress } from "../../../src/core/egress/snapshot.ts";
import { RouteSet } from "../../../src/core/route_set.ts";
import type { Drops } from "../../../src/dataplane/tunnel/counters.ts";
import { TunnelHub } from "../../../src/dataplane/tunnel/hub.ts";
import type { TunnelSession } from "../../../src/dataplane/tunnel/tunnel_session.ts";
import { FakeDevice, FakeLink, FakeTurns } from "./fakes.ts";
import { ip } from "./packets.ts";

const DOMAIN = "tunnel.example";

/** Addresses of the ground. */
export const GATEWAY = "10.100.0.1";
export const ALICE = "10.100.0.10";
export const BOB = "10.100.0.20";
export const CAROL = "10.100.0.30";
export const GATEWAY6 = "fd00::1";
export const ALICE6 = "fd00::a";
export const BOB6 = "fd00::b";
/** Hosts outside. */
export const SERVER = "192.0.2.80";
export const STRANGER = "198.51.100.66";
export const SERVER6 = "2001:db8::80";

/** Reads a prefix that is right. */
export function prefix(text: string): IpPrefix {
  const read = parsePrefix(text);
  if (read === undefined) throw new TypeError(`Cannot read ${text} as a prefix`);
  return read;
}

/** Routes to prefixes, for one protocol or for all. */
export function routes(prefixes: readonly string[], protocol = 0): RouteSet {
  return RouteSet.from(prefixes.map((text) => ({ range: prefixRange(prefix(text)), protocol })));
}

/** Everything there is. */
export const ANYWHERE = routes(["0.0.0.0/0", "::/0"]);

/** A rule on addresses. */
export function cidrRule(
  destinations: readonly string[],
  options: { readonly action?: EgressAction; readonly protocols?: readonly number[]; readonly id?: string } =
    {},
): EgressRule {
  return {
    id: options.id ?? `cidr-${destinations.join("-")}`,
    type: "ip_cidr",
    action: options.action ?? "allow",
    destinations: destinations.map(prefix),
    protocols: options.protocols ?? null,
    ports: null,
    metadata: {},
  };
}

/** A rule on identities or names. */
export function wordRule(type: "identity" | "fqdn", destinations: readonly string[]): EgressRule {
  return {
    id: `${type}-rule`,
    type,
    action: "allow",
    destinations,
    protocols: null,
    ports: null,
    metadata: {},
  };
}

/** A peer of the hub. */
export interface Peer {
  readonly session: TunnelSession;
  readonly link: FakeLink;
}

/** How a peer is attached. */
export interface JoinOptions {
  readonly rules?: readonly EgressRule[];
  readonly addresses?: readonly string[];
  readonly scope?: RouteSet;
  readonly onReplaced?: () => void;
}

/** The hub and all around it. */
export class HubGround {
  readonly device = new FakeDevice();
  readonly turns = new FakeTurns();
  readonly decisions: { readonly who: string; readonly flow: FlowEntry; readonly action: EgressAction }[] =
    [];
  readonly closed: { readonly identity: string; readonly flow: FlowEntry }[] = [];
  readonly reports: { readonly who: string; readonly drops: Drops }[] = [];
  readonly errors: unknown[] = [];
  readonly learned: string[] = [];
  readonly engine: EgressEngine;
  readonly hub: TunnelHub;
  now = 1_000_000;
  /** Makes the audit fail. */
  auditFault: Error | undefined;

  constructor() {
    this.engine = new EgressEngine({
      capacityPerClient: 4_096,
      capacity: 65_536,
      identityAt: (...address) => this.hub.identityAt(...address),
    });
    this.hub = new TunnelHub({
      device: this.device,
      engine: this.engine,
      gateway4: ip(GATEWAY),
      gateway6: ip(GATEWAY6),
      pools: POOLS,
      schedule: this.turns.schedule,
      now: () => this.now,
      onDecision: (session, flow) => {
        if (this.auditFault !== undefined) throw this.auditFault;
        this.decisions.push({ who: session.identity.name, flow, action: flow.action });
      },
      onLearned: (session) => this.learned.push(session.identity.name),
      onClosedFlow: (identity, flow) => this.closed.push({ identity, flow }),
      onDrops: (session, drops) => this.reports.push({ who: session.identity.name, drops }),
      onError: (error) => this.errors.push(error),
    });
  }

  /** Attaches an agent; without rules it may do nothing. */
  join(name: string, options: JoinOptions = {}): Peer {
    const identity = identityOf(name);
    const rules = compileEgress({
      name: "test",
      defaultAction: "drop",
      resolvers: null,
      clients: [{ client: name, rules: options.rules ?? [] }],
    }, { trustDomain: DOMAIN, pools: POOLS }).rulesFor(identity);
    const link = new FakeLink();
    const session = this.hub.attach({
      identity,
      addresses: (options.addresses ?? ADDRESSES[name] ?? []).map(ip),
      link,
      client: this.engine.client({ identity: identity.uri, rules }),
      scope: options.scope ?? ANYWHERE,
      ...(options.onReplaced === undefined ? {} : { onReplaced: options.onReplaced }),
    });
    return { session, link };
  }

  /** A peer sends packets, and the burst ends. */
  async send(peer: Peer, ...packets: readonly Uint8Array<ArrayBuffer>[]): Promise<void> {
    for (const packet of packets) peer.session.receive(packet);
    await this.turns.run();
  }

  /** Packets come from the kernel; the hub must be running. */
  async arrive(...packets: readonly Uint8Array[]): Promise<void> {
    this.device.arrive(...packets);
    await this.turns.run();
  }

  /** Runs the hub while a test does something. */
  async running(test: () => Promise<void>): Promise<void> {
    const run = this.hub.run();
    try {
      await test();
    } finally {
      this.hub.close();
      await this.turns.run();
      await run;
    }
  }
}

/** The identity of an agent. */
export function identityOf(name: string): EgressIdentity {
  return { uri: `spiffe://${DOMAIN}/agent/${name}`, kind: "agent", name, attributes: new Set() };
}

const POOLS = [prefix("10.100.0.0/24"), prefix("fd00::/64")];

const ADDRESSES: Readonly<Record<string, readonly string[]>> = {
  alice: [ALICE, ALICE6],
  bob: [BOB, BOB6],
  carol: [CAROL],
};

/** Nothing came of it: not outside, not at any of the peers. */
export function assertNothingPassed(ground: HubGround, ...peers: readonly Peer[]): void {
  assert.deepEqual(ground.device.written, []);
  for (const { link } of peers) assert.deepEqual(link.sent, []);
  assert.deepEqual(ground.errors, []);
}

/** Addresses of a text, for what takes them parsed. */
export function addresses(...texts: readonly string[]): IpAddress[] {
  return texts.map(ip);
}
