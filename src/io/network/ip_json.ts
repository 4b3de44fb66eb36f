/**
 * Reads what `ip -json` prints: links with their addresses, and routes. Entries of a form we do not know are left out.
 */

import { type IpAddress, type IpPrefix, parseIp, parsePrefix } from "../../base/ip.ts";
import type { InterfaceAddress, InterfaceState } from "./interface_plan.ts";

/** A route as the kernel has it. */
export interface KernelRoute {
  readonly prefix: IpPrefix;
  /** "unicast"; "local" for our own addresses; or how it refuses: "unreachable", "blackhole", "prohibit", "throw". */
  readonly type: string;
  /** "main", or another by name or number. */
  readonly table: string;
  /** Who made it, as `ip` names it: "kernel", "dhcp", "71". */
  readonly protocol: string;
  readonly metric: number;
  /** Where it leads; absent where it refuses. */
  readonly hop?: NextHop;
  /** Whose address it is, of a "local" one. */
  readonly owner?: string;
}

/** The next machine on the way, or a neighbour on the link itself. */
export interface NextHop {
  readonly device: string;
  readonly gateway?: IpAddress;
}

/** Reads `ip -json -details link show` merged with `ip -json addr show`, of one interface. */
export function readInterface(link: string, addresses: string): InterfaceState | undefined {
  const [entry] = records(link);
  if (entry === undefined || typeof entry["mtu"] !== "number") return undefined;
  return {
    up: Array.isArray(entry["flags"]) && entry["flags"].includes("UP"),
    mtu: entry["mtu"],
    addressGeneration: String(entry["inet6_addr_gen_mode"] ?? "unknown"),
    addresses: records(addresses).flatMap((item) => recordsOf(item["addr_info"])).flatMap(readAddress),
  };
}

/** Reads `ip -json -details route show table all`. */
export function readRoutes(text: string, version: 4 | 6): KernelRoute[] {
  return records(text).flatMap((entry) => {
    const prefix = readDestination(entry["dst"], version);
    if (prefix === undefined) return [];
    const type = typeof entry["type"] === "string" ? entry["type"] : "unicast";
    const metric = typeof entry["metric"] === "number" ? entry["metric"] : 0;
    // Of several hops with weights the first will do: each of them leads there.
    // IPv6 routes that refuse carry the loopback interface.
    const hops = type === "unicast" ? [entry, ...recordsOf(entry["nexthops"])] : [];
    const hop = hops.map(readHop).find((found) => found !== undefined);
    const table = String(entry["table"] ?? "main");
    const device = entry["dev"];
    const owner = type === "local" && typeof device === "string" ? { owner: device } : {};
    const route = { prefix, type, table, protocol: String(entry["protocol"] ?? ""), metric, ...owner };
    return [hop === undefined ? route : { ...route, hop }];
  });
}

/** Reads the names that `ip -json link show` lists. */
export function readLinkNames(text: string): string[] {
  return records(text).flatMap(({ ifname }) => typeof ifname === "string" ? [ifname] : []);
}

function readAddress(info: Readonly<Record<string, unknown>>): InterfaceAddress[] {
  if (info["scope"] !== "global") return [];
  const address = parseIp(String(info["local"]));
  const prefixLength = info["prefixlen"];
  return address === undefined || typeof prefixLength !== "number" ? [] : [{ address, prefixLength }];
}

function readDestination(value: unknown, version: 4 | 6): IpPrefix | undefined {
  if (value === "default") return { version, first: 0n, length: 0 };
  return typeof value === "string" ? parsePrefix(value) : undefined;
}

function readHop(entry: Readonly<Record<string, unknown>>): NextHop | undefined {
  const device = entry["dev"];
  if (typeof device !== "string") return undefined;
  const via = entry["via"];
  const text = entry["gateway"] ?? (isRecord(via) ? via["host"] : undefined);
  const gateway = typeof text === "string" ? parseIp(text) : undefined;
  return gateway === undefined ? { device } : { device, gateway };
}

function records(text: string): Readonly<Record<string, unknown>>[] {
  return text.trim() === "" ? [] : recordsOf(JSON.parse(text));
}

function recordsOf(value: unknown): Readonly<Record<string, unknown>>[] {
  return Array.isArray(value) ? value.filter(isRecord) : [];
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
