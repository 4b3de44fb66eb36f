/**
 * One connect-ip request at the relay, answered and alive: keeps the peer told of its addresses and routes, and knows
 * whose rules hold.
 */

import { type IpAddress, ipBits, type IpPrefix, prefixRange } from "../../../base/ip.ts";
import type { ClientRules } from "../../../core/egress/client_rules.ts";
import type { EgressIdentity } from "../../../core/egress/document.ts";
import { type Route, RouteSet } from "../../../core/route_set.ts";
import type { ConnectIp } from "../../../dataplane/tunnel/connect_ip.ts";
import type { TunnelSession } from "../../../dataplane/tunnel/tunnel_session.ts";
import type { AssignedAddress } from "../../../wire/capsule/connect_ip.ts";

/** What a tunnel is made of. */
export interface TunnelRequestOptions {
  readonly identity: EgressIdentity;
  readonly addresses: readonly IpAddress[];
  readonly scope: RouteSet;
  readonly rules: ClientRules;
  /** Prefixes to advertise; undefined: what the rules allow. */
  readonly routes: readonly IpPrefix[] | undefined;
  readonly connectIp: ConnectIp;
  readonly session: TunnelSession;
}

/** A peer's tunnel at the relay. */
export class TunnelRequest {
  readonly session: TunnelSession;
  readonly #options: TunnelRequestOptions;
  #rules: ClientRules;
  #told: string | undefined;

  constructor(options: TunnelRequestOptions) {
    this.#options = options;
    this.#rules = options.rules;
    this.session = options.session;
  }

  get identity(): EgressIdentity {
    return this.#options.identity;
  }

  /** Bytes of the largest packet that the peer gets in one datagram now. */
  get mtu(): number {
    return this.#options.connectIp.mtu;
  }

  /** Assigns the addresses, before anything else is said, then tells the routes. */
  async begin(now: number): Promise<void> {
    await this.#options.connectIp.sendAssign(this.#options.addresses.map((address) => assigned(address, 0)));
    await this.advertise(now);
  }

  /** Tells the peer its routes where they are not those it knows. */
  async advertise(now: number): Promise<void> {
    const { routes, scope, connectIp, session } = this.#options;
    const allowed = routes?.map(prefixRange) ?? [
      ...this.#rules.routes().map(prefixRange),
      ...session.client.learnedAddresses(now).map(({ version, value }) => ({
        version,
        first: value,
        last: value,
      })),
    ];
    const list = RouteSet.from(allowed.map((range): Route => ({ range, protocol: 0 }))).intersect(scope)
      .toRoutes();
    const text = list.map(({ range, protocol }) =>
      `${range.version} ${range.first} ${range.last} ${protocol}`
    )
      .join(",");
    if (text === this.#told) return;
    this.#told = text;
    await connectIp.sendRoutes(list);
  }

  /** Tells the peer that addresses it learned by name are not open any more, where that is so. */
  async withdrawExpired(now: number): Promise<void> {
    if (this.#options.routes === undefined && this.#rules.allowedNames.length > 0) await this.advertise(now);
  }

  /** Puts other rules in force: flows are judged again; without rules the tunnel ends. */
  async setRules(rules: ClientRules | undefined, now: number): Promise<void> {
    this.session.client.setRules(rules);
    if (rules === undefined) return this.close();
    this.#rules = rules;
    await this.advertise(now);
  }

  /** Answers a peer that asks for addresses: it has one of each version, whatever it wishes (RFC 9484 §4.7.2). */
  async answer(wishes: readonly AssignedAddress[]): Promise<void> {
    const { addresses, connectIp } = this.#options;
    await connectIp.sendAssign(wishes.map(({ requestId, address: { version } }) => {
      const own = addresses.find((address) => address.version === version);
      return assigned(own ?? { version, value: 0n }, requestId);
    }));
  }

  /** Ends the tunnel at once, whatever its peer does: from here on no packet passes. */
  close(): void {
    this.session.detach();
    this.#options.connectIp.abort();
  }
}

function assigned(address: IpAddress, requestId: number): AssignedAddress {
  return { requestId, address, prefixLength: ipBits(address.version) };
}
