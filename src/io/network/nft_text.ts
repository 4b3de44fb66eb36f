/** The nftables rules of relay and agent as text: pure. Every value comes from a parsed type. */

import { formatIp, formatPrefix, type IpAddress, type IpPrefix, type IpVersion } from "../../base/ip.ts";
import { checkInterfaceName } from "./interface_name.ts";
import type { TableText } from "./nft.ts";

/** What the relay's rules are about. */
export interface NatRules {
  readonly interfaceName: string;
  /** Where clients get their addresses from. */
  readonly pools: readonly IpPrefix[];
  /** Our own addresses on the tunnel: the only ones of this machine that clients reach. */
  readonly gateways: readonly IpAddress[];
  /** Versions whose forwarding we switched on: nothing but the tunnel may make use of that. */
  readonly exclusive: readonly IpVersion[];
}

/** What may leave outside the tunnel. */
export interface KillSwitchRules {
  readonly interfaceName: string;
  /** "full": nothing but the exceptions; otherwise these prefixes may not. */
  readonly routes: "full" | readonly IpPrefix[];
  readonly relays: readonly RelayEndpoint[];
  /** Further interfaces by which packets may leave. */
  readonly beside?: readonly string[];
}

/** An address and port that stays reachable outside the tunnel, by UDP and TCP. */
export interface RelayEndpoint {
  readonly address: IpAddress;
  readonly port: number;
}

/** Which packets of other machines have no business at an interface that captures. */
export interface CaptureGuardRules {
  readonly interfaceName: string;
  readonly own: readonly IpAddress[];
  readonly allowRemoteClients: boolean;
}

/** The relay's table: what clients may send to this machine, what may be forwarded, whose address it leaves with. */
export function natTable({ interfaceName, pools, gateways, exclusive }: NatRules): TableText {
  const name = natTableName(interfaceName);
  const tun = `"${interfaceName}"`;
  const input = [
    `iifname != ${tun} accept`,
    ...gateways.map((address) => `${family(address.version)} daddr ${formatIp(address)} accept`),
    "drop",
  ];
  const forward = [
    // From client to client goes only what policy has let pass before it reached the kernel.
    `iifname ${tun} oifname ${tun} drop`,
    // A packet that belongs to no connection would leave with the client's own address.
    `iifname ${tun} ct state invalid drop`,
    ...pools.map((pool) => `iifname ${tun} ${family(pool.version)} saddr ${formatPrefix(pool)} accept`),
    `iifname ${tun} drop`,
    `oifname ${tun} ct state established,related accept`,
    `oifname ${tun} drop`,
    ...exclusive.map((version) => `meta nfproto ipv${version} drop`),
  ];
  const nat = pools.map((pool) =>
    `oifname != ${tun} ${family(pool.version)} saddr ${formatPrefix(pool)} masquerade`
  );
  const body = [
    chain("input", { hook: "type filter hook input priority filter", rules: input }),
    chain("forward", { hook: "type filter hook forward priority filter", rules: forward }),
    chain("postrouting", { hook: "type nat hook postrouting priority srcnat", rules: nat }),
  ];
  return { name, body: body.join("") };
}

/** The agent's table: what leaves this machine, its own or forwarded, must go through the tunnel. */
export function killSwitchTable(rules: KillSwitchRules): TableText {
  const { interfaceName, routes, relays, beside = [] } = rules;
  const name = killSwitchTableName(interfaceName);
  const tun = [interfaceName, ...beside].map((name) => `"${checkInterfaceName(name)}"`).join(", ");
  const endpoints = ([4, 6] as const).flatMap((version) => relayRules(version, relays));
  const full = routes === "full";
  const sets = full ? [] : routeSets(routes);
  const outside = full ? ["drop"] : sets.map(({ version, name }) => `${family(version)} daddr @${name} drop`);
  const output = [
    `oifname { "lo", ${tun} } accept`,
    ...endpoints,
    ...(full ? LINK_RULES : []),
    ...outside,
  ];
  const forward = [`oifname { ${tun} } accept`, ...(full ? [`iifname { ${tun} } accept`] : []), ...outside];
  const body = [
    ...sets.map(({ text }) => text),
    chain("output", { hook: "type filter hook output priority filter", rules: output }),
    chain("forward", { hook: "type filter hook forward priority filter", rules: forward }),
  ];
  return { name, body: body.join("") };
}

/** The table of an agent that captures: what other machines send in services' names, or to them. */
export function captureGuardTable(rules: CaptureGuardRules): TableText {
  const { interfaceName, own, allowRemoteClients } = rules;
  const name = captureGuardTableName(interfaceName);
  const tun = `"${interfaceName}"`;
  const prerouting = [
    `iifname { "lo", ${tun} } accept`,
    ...own.map((address) => `${family(address.version)} daddr ${formatIp(address)} drop`),
    // By the routes, which follow the services and leave out what stays outside.
    `fib saddr oifname ${tun} drop`,
    // The kernel itself refuses this for IPv4 only.
    `${allowRemoteClients ? "fib saddr type local " : ""}fib daddr oifname ${tun} drop`,
  ];
  return {
    name,
    body: chain("prerouting", { hook: "type filter hook prerouting priority raw", rules: prerouting }),
  };
}

/** The name of the table of an agent that captures. */
export function captureGuardTableName(interfaceName: string): string {
  return `ginnel_GUARD_${checkInterfaceName(interfaceName)}`;
}

/** The name of the relay's table. */
export function natTableName(interfaceName: string): string {
  return `ginnel_${checkInterfaceName(interfaceName)}`;
}

/** The name of the kill switch's table. It cannot be that of a relay's: no interface's name has a capital letter. */
export function killSwitchTableName(interfaceName: string): string {
  return `ginnel_KILL_${checkInterfaceName(interfaceName)}`;
}

/** What keeps the link itself alive: DHCP, and IPv6's neighbours, routers and groups. */
const LINK_RULES = [
  "meta nfproto ipv4 udp sport 68 udp dport 67 accept",
  "meta nfproto ipv6 udp sport 546 udp dport 547 accept",
  "icmpv6 type { nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report } accept",
];

function relayRules(version: IpVersion, relays: readonly RelayEndpoint[]): string[] {
  const pairs = relays.filter(({ address }) => address.version === version).map(({ address, port }) => {
    if (!Number.isInteger(port) || port < 1 || port > 65_535) {
      throw new RangeError(`Cannot allow port ${port}`);
    }
    return `${formatIp(address)} . ${port}`;
  });
  const unique = [...new Set(pairs)].join(", ");
  if (unique === "") return [];
  return [`meta l4proto { tcp, udp } ${family(version)} daddr . th dport { ${unique} } accept`];
}

/** Sets and not rules: a packet's way through them does not get longer with their number. */
function routeSets(routes: readonly IpPrefix[]): { version: IpVersion; name: string; text: string }[] {
  return ([4, 6] as const).flatMap((version) => {
    const elements = routes.filter((prefix) => prefix.version === version).map(formatPrefix);
    if (elements.length === 0) return [];
    const name = `tunnelled${version}`;
    const options = `type ipv${version}_addr; flags interval; auto-merge`;
    return [{
      version,
      name,
      text: `  set ${name} {\n    ${options}\n    elements = { ${elements.join(", ")} }\n  }\n`,
    }];
  });
}

function chain(
  name: string,
  { hook, rules }: { readonly hook: string; readonly rules: readonly string[] },
): string {
  const lines = rules.map((rule) => `    ${rule}\n`).join("");
  return `  chain ${name} {\n    ${hook}; policy accept;\n${lines}  }\n`;
}

function family(version: IpVersion): "ip" | "ip6" {
  return version === 4 ? "ip" : "ip6";
}
