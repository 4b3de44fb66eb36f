/**
 * Which commands lead from the present routes to the wanted ones: pure. Ours carry a protocol number of their own,
 * so that they are told from everybody else's.
 */

import {
  formatIp,
  formatPrefix,
  type IpAddress,
  ipBits,
  type IpPrefix,
  prefixContains,
} from "../../base/ip.ts";
import type { Step } from "./batch.ts";
import type { KernelRoute, NextHop } from "./ip_json.ts";
import type { Siblings } from "./route_siblings.ts";

/** The protocol number (rtm_protocol) of every route of ours; none of the known routing daemons has it. */
const ROUTE_PROTOCOL = "71";

/** A host route that keeps an address outside the tunnel; without a hop it refuses, so that nothing loops. */
export interface Pin {
  readonly address: IpAddress;
  readonly hop?: NextHop;
}

/** What there is and what is wanted. */
export interface RouteWish {
  readonly interfaceName: string;
  /** All routes of all tables; ours are in the main one. */
  readonly present: readonly KernelRoute[];
  /** Prefixes that lead into the tunnel. */
  readonly wanted: readonly IpPrefix[];
  readonly pins: readonly Pin[];
  /** Addresses that had a pin of ours before. */
  readonly pinnedBefore: readonly IpAddress[];
  /** The other interfaces of this process. */
  readonly siblings?: Siblings;
}

/** What to do, and what cannot be done. */
export interface RoutePlan {
  readonly steps: readonly Step[];
  /** Wanted prefixes that another interface has already, as its own network or by a route of equal rank. */
  readonly conflicts: readonly IpPrefix[];
}

/** Plans the change: pins come before the routes that would catch them, and go after those. */
export function planRoutes(wish: RouteWish): RoutePlan {
  const { interfaceName, wanted, pins } = wish;
  const present = wish.present.filter(({ table }) => table === "main");
  const ours = present.filter((route) => isTunnelRoute(route, interfaceName));
  const isPin = pinTest(wish);
  const oldPins = present.filter(isPin);
  const foreign = present.filter((route) => !ours.includes(route) && !oldPins.includes(route));
  const taken = new Set(foreign.filter((route) => route.metric === metricOf(route.prefix)).map(nameOf));
  const conflicts: IpPrefix[] = [];
  const steps: Step[] = planPins(pins, oldPins);
  const present71 = new Set(ours.map(nameOf));
  const wantedNames = new Set<string>();
  for (const prefix of wanted) {
    const name = formatPrefix(prefix);
    if (wantedNames.has(name)) continue;
    wantedNames.add(name);
    if (present71.has(name)) continue;
    if (taken.has(name)) conflicts.push(prefix);
    else {steps.push({
        run: `route add ${tunnelLine(prefix, interfaceName)}`,
        undo: delTunnel(prefix, interfaceName),
      });}
  }
  for (const { prefix } of ours.filter((route) => !wantedNames.has(nameOf(route)))) {
    steps.push({
      run: delTunnel(prefix, interfaceName),
      undo: `route add ${tunnelLine(prefix, interfaceName)}`,
    });
  }
  const kept = [...pins.map(({ address }) => address), ...wish.siblings?.pinned ?? []];
  const pinNames = new Set(kept.map((address) => nameOf({ prefix: hostPrefix(address) })));
  for (const route of oldPins.filter((route) => !pinNames.has(nameOf(route)))) {
    steps.push({ run: `route del ${pinLine(route)}`, undo: `route add ${pinLine(route)}` });
  }
  return { steps, conflicts };
}

/** The addresses among `pinned` that a wanted prefix would catch, each once. */
export function coveredBy(wanted: readonly IpPrefix[], pinned: readonly IpAddress[]): IpAddress[] {
  const found = new Map<string, IpAddress>();
  for (const address of pinned) {
    if (wanted.some((prefix) => prefixContains(prefix, address))) found.set(formatIp(address), address);
  }
  return [...found.values()];
}

/**
 * Where a packet to `address` goes when our routes are not there, nor those of other interfaces that we or another
 * ginnel made: the longest prefix, then the lowest metric. The main table comes first; where it knows no way, rules may
 * lead to another that does.
 */
export function outsideRoute(
  address: IpAddress,
  { interfaceName, present, pinnedBefore, siblings }: Omit<RouteWish, "wanted" | "pins">,
): KernelRoute | undefined {
  const isPin = pinTest({ interfaceName, pinnedBefore, pins: [{ address }], ...(siblings && { siblings }) });
  const isOurs = (route: KernelRoute) => {
    const device = route.hop?.device ?? "";
    if (device === interfaceName || siblings?.interfaces.has(device) === true) return true;
    return isPin(route) || (route.protocol === ROUTE_PROTOCOL && !isHostRoute(route));
  };
  const fitting = present.filter((route) =>
    WAYS.has(route.type) && prefixContains(route.prefix, address) && !isOurs(route)
  );
  return fitting.toSorted((a, b) =>
    rank(a) - rank(b) || b.prefix.length - a.prefix.length || a.metric - b.metric
  )[0];
}

/** Types of routes that decide: broadcasts are not asked about, and "throw" leaves it to others. */
const WAYS = new Set(["unicast", "local", "unreachable", "blackhole", "prohibit"]);

/** Whether the route is somebody else's host route to just this address: then there is nothing to pin. */
export function isHostRoute(route: KernelRoute): boolean {
  return route.prefix.length === ipBits(route.prefix.version);
}

/** The prefix of one address. */
function hostPrefix({ version, value }: IpAddress): IpPrefix {
  return { version, first: value, length: ipBits(version) };
}

/** The kernel's own table comes first, and ours, the main one, before those that rules lead to. */
function rank({ type, table }: KernelRoute): number {
  if (type === "local") return 0;
  return table === "main" ? 1 : 2;
}

function planPins(pins: readonly Pin[], present: readonly KernelRoute[]): Step[] {
  const steps: Step[] = [];
  for (const { address, hop } of pins) {
    const wanted: PinRoute = { prefix: hostPrefix(address), ...(hop === undefined ? {} : { hop }) };
    const old = present.filter((route) => nameOf(route) === nameOf(wanted));
    const [first] = old;
    if (first === undefined) {
      steps.push({ run: `route add ${pinLine(wanted)}`, undo: `route del ${pinLine(wanted)}` });
    } else if (pinLine(first) !== pinLine(wanted)) {
      // One command: between deleting and adding, the tunnel would catch the relay's packets.
      steps.push({ run: `route replace ${pinLine(wanted)}`, undo: `route replace ${pinLine(first)}` });
    }
  }
  return steps;
}

type PinRoute = Pick<KernelRoute, "prefix" | "hop">;

/** Recognises our pins: host routes of our number to an address that is pinned, or was. */
function pinTest(
  { interfaceName, pins, pinnedBefore, siblings }: Omit<RouteWish, "present" | "wanted">,
): (route: KernelRoute) => boolean {
  const addresses = [...pins.map(({ address }) => address), ...pinnedBefore, ...siblings?.pinned ?? []];
  const known = new Set(addresses.map(formatIp));
  const devices = new Set([interfaceName, ...siblings?.interfaces ?? []]);
  return (route) =>
    route.protocol === ROUTE_PROTOCOL && isHostRoute(route) && !devices.has(route.hop?.device ?? "") &&
    known.has(formatIp({ version: route.prefix.version, value: route.prefix.first }));
}

function isTunnelRoute(route: KernelRoute, interfaceName: string): boolean {
  return route.protocol === ROUTE_PROTOCOL && route.hop?.device === interfaceName;
}

function nameOf({ prefix }: { readonly prefix: IpPrefix }): string {
  return formatPrefix(prefix);
}

/** IPv4's highest rank is 0; IPv6 reads 0 as its default, 1024. */
function metricOf({ version }: IpPrefix): number {
  return version === 4 ? 0 : 1;
}

function metricText(prefix: IpPrefix): string {
  return prefix.version === 4 ? "" : ` metric ${metricOf(prefix)}`;
}

function tunnelLine(prefix: IpPrefix, interfaceName: string): string {
  return `${formatPrefix(prefix)} dev ${interfaceName} proto ${ROUTE_PROTOCOL}${metricText(prefix)}`;
}

function delTunnel(prefix: IpPrefix, interfaceName: string): string {
  return `route del ${tunnelLine(prefix, interfaceName)}`;
}

function pinLine({ prefix, hop }: PinRoute): string {
  const rest = `proto ${ROUTE_PROTOCOL}${metricText(prefix)}`;
  if (hop === undefined) return `unreachable ${formatPrefix(prefix)} ${rest}`;
  const { device, gateway } = hop;
  if (gateway === undefined) return `${formatPrefix(prefix)} dev ${device} ${rest}`;
  const family = gateway.version === prefix.version ? "" : "inet6 ";
  // The gateway of some clouds lies in no network of the interface: "onlink" takes our word for it.
  return `${formatPrefix(prefix)} via ${family}${formatIp(gateway)} dev ${device} onlink ${rest}`;
}
