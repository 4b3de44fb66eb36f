/**
 * Looks at a host of a tunnel ground as its administrator would: what is routed where, what changes, what is left
 * behind, and what leaves it beside its tunnel.
 */

import { eventually } from "./eventually.ts";
import type { ManagedProcess } from "./processes.ts";
import type { GroundHost, TunnelGround } from "./tunnel_ground.ts";
import { TUNNEL_INTERFACE } from "./tunnel_hosts.ts";
import { INTERNET_PORTS } from "./tunnel_internet.ts";

/** Everything of the kernel and of the resolver that a node could leave behind, as text. */
const PICTURE = "ip -d addr show; ip rule show; ip -6 rule show; ip -d route show table all; " +
  "ip -d -6 route show table all; nft list ruleset; cat /etc/resolv.conf; ls -A /etc/netns/$0";

/** Addresses, rules, routes, nftables and resolv.conf of a host. */
export async function networkPicture(ground: TunnelGround, host: GroundHost): Promise<string> {
  const text = await ground.run(host, ["sh", "-ec", PICTURE, ground.host(host).namespace]);
  // Link-local addresses come by themselves, a while after the link.
  return text.split("\n").filter((line) => !/fe80::[0-9a-f:]+(\/64 scope link| dev)/.test(line)).join("\n");
}

/** The prefixes that lead into a host's tunnel, sorted. */
export async function tunnelRoutes(ground: TunnelGround, host: GroundHost): Promise<string[]> {
  const routes: { dst: string }[] = [];
  for (const version of ["-4", "-6"]) {
    routes.push(
      ...JSON.parse(
        await ground.run(host, [
          "ip",
          version,
          "-json",
          "route",
          "show",
          "dev",
          TUNNEL_INTERFACE,
          "proto",
          "71",
        ]),
      ),
    );
  }
  return routes.map(({ dst }) => dst).toSorted();
}

/** Where a packet of the host to that address leaves: an interface, with the gateway where there is one. */
export async function wayTo(ground: TunnelGround, route: { readonly from: GroundHost; readonly to: string }) {
  const [found] = JSON.parse(await ground.run(route.from, ["ip", "-json", "route", "get", route.to]));
  const { dev, gateway } = found as { dev: string; gateway?: string };
  return gateway === undefined ? dev : `${dev} via ${gateway}`;
}

/** Follows the routes of a host; each change is a line of the process. */
export async function watchRoutes(ground: TunnelGround, host: GroundHost): Promise<ManagedProcess> {
  const monitor = ground.spawn(host, ["ip", "monitor", "route"]);
  await eventually(async () => {
    await ground.run(host, ["sh", "-ec", "ip route add 192.0.2.254 dev lo; ip route del 192.0.2.254 dev lo"]);
    return monitor.lines.some((line) => line.startsWith("Deleted 192.0.2.254"));
  });
  return monitor;
}

/** Changes of the tunnel's own routes that a monitor has seen. */
export function touchedTunnelRoutes(monitor: ManagedProcess): string[] {
  return monitor.lines.filter((line) =>
    line.includes(` dev ${TUNNEL_INTERFACE} `) && line.includes(" proto 71")
  );
}

/** Counts, in the internet and at the relay, what arrives there from a host outside of its tunnel. */
export class LeakCounter {
  readonly #ground: TunnelGround;

  private constructor(ground: TunnelGround) {
    this.#ground = ground;
  }

  /** Counts from now on what comes from addresses of that host, but for what the relay's port takes, and DHCP. */
  static async start(ground: TunnelGround, from: "agent1" | "agent2"): Promise<LeakCounter> {
    const number = from.slice(-1);
    const rules = [
      ...["iifname != eth0 accept", "udp dport 67 counter name dhcp accept", "th dport 4433 accept"],
      // What a link says to its neighbours when it comes up.
      "ip daddr 224.0.0.0/24 accept",
      ...[
        "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report } accept",
      ],
      ...[`ip saddr 10.77.0.${number} counter name leaks`, `ip6 saddr fd77::${number} counter name leaks`],
    ];
    const table = "table inet probe { counter leaks { }; counter dhcp { }; chain arriving { " +
      `type filter hook prerouting priority -300; policy accept; ${rules.join("; ")}; }; }`;
    for (const host of ["internet", "relay"] as const) await ground.run(host, ["nft", table]);
    return new LeakCounter(ground);
  }

  /** Packets so far. */
  async count(name: "leaks" | "dhcp" = "leaks"): Promise<number> {
    let sum = 0;
    for (const host of ["internet", "relay"] as const) {
      const text = await this.#ground.run(host, ["nft", "list", "counter", "inet", "probe", name]);
      sum += Number(/packets (\d+)/.exec(text)?.[1]);
    }
    return sum;
  }
}

/**
 * Tries everything that could leave a host towards those addresses: ICMP, TCP and UDP. Resolves when all of it has
 * left, or was refused.
 */
export async function knock(
  ground: TunnelGround,
  { from, to }: { readonly from: GroundHost; readonly to: readonly string[] },
): Promise<void> {
  const one = [
    "ping -n -c 2 -i 0.2 -W 1 $1",
    `timeout 1 bash -c "echo > /dev/tcp/$1/${INTERNET_PORTS.web}"`,
    `bash -c "echo > /dev/udp/$1/${INTERNET_PORTS.echo}"`,
    `bash -c "echo > /dev/udp/$1/${INTERNET_PORTS.dns}"`,
  ];
  const script = `( ${one.join(" & ")} & wait ) >/dev/null 2>&1; true`;
  await Promise.all(to.map((address) => ground.run(from, ["sh", "-c", script, "sh", address])));
}
