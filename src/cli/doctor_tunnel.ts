/**
 * What `ginnel doctor --config` looks at where the config asks for an IP tunnel: the device, the capability, the
 * programs, forwarding.
 */

import { errorMessage, GinnelError } from "../base/errors.ts";
import type { IpVersion } from "../base/ip.ts";
import type { Config } from "../config/parse_config.ts";
import type { RelayTunnelConfig } from "../config/schema/tunnel.ts";
import {
  type Forwarding,
  type Lack,
  probeForwarding,
  probeIp,
  probeNetAdmin,
  probeNft,
  probeTun,
} from "../modes/doctor/probe_tunnel.ts";
import type { Finding } from "./report.ts";

/** Looks at what the tunnel of a config needs; nothing where it has none. */
export async function inspectTunnelNeeds(config: Config | undefined): Promise<Finding[]> {
  if (config === undefined || (config.mode !== "relay" && config.mode !== "agent")) return [];
  const { tunnel } = config;
  if (tunnel === undefined) return [];
  const needsNft = "nat" in tunnel ? tunnel.nat === "masquerade" : tunnel.killSwitch;
  const lack = probeTun(tunnel.interface);
  return [
    inspectNetAdmin(),
    // A missing capability is told once.
    ...(lack?.code === "ERR_TUN_NO_PRIVILEGE" ? [] : [judge("TUN", lack, "interfaces can be made")]),
    judge("ip", await probeIp(), "works"),
    ...(needsNft ? [judge("nft", await probeNft(), "works")] : []),
    ...("nat" in tunnel ? inspectForwarding(tunnel) : []),
  ];
}

/** What a verdict on forwarding depends on. */
export interface ForwardingCase {
  readonly forwarding: Forwarding;
  readonly nat: RelayTunnelConfig["nat"];
  /** Whether the relay would have another version left. */
  readonly hasOther: boolean;
}

/** Judges how this machine forwards packets of one version. */
export function judgeForwarding(
  version: IpVersion,
  { forwarding, nat, hasOther }: ForwardingCase,
): Finding {
  const subject = "forwarding";
  const setting = version === 4 ? "net.ipv4.ip_forward=1" : "net.ipv6.conf.all.forwarding=1";
  const hint = `Run: sysctl -w ${setting}, and put it in /etc/sysctl.d; or docker run --sysctl ${setting}`;
  switch (forwarding) {
    case "on":
      return { verdict: "ok", subject, text: `IPv${version} is on` };
    case "absent": {
      const text = `this kernel has no IPv${version}: clients reach nothing by it`;
      return { verdict: "warn", subject, text, hint: `Set tunnel.ipv${version} to null` };
    }
    case "off":
      if (nat === "masquerade") {
        return { verdict: "ok", subject, text: `IPv${version} is off; the relay switches it on` };
      }
      return {
        verdict: "warn",
        subject,
        text: `IPv${version} is off, and tunnel.nat is none: clients reach nothing`,
        hint,
      };
    case "locked": {
      const text = `IPv${version} is off, and the relay may not switch it on`;
      // The relay goes on without IPv6 beside IPv4, but not without IPv4.
      const isVital = nat === "masquerade" && !(version === 6 && hasOther);
      return { verdict: isVital ? "fail" : "warn", subject, text, hint };
    }
  }
}

function inspectForwarding({ ipv4, ipv6, nat }: RelayTunnelConfig): Finding[] {
  const versions = [...(ipv4 === null ? [] : [4] as const), ...(ipv6 === null ? [] : [6] as const)];
  const hasOther = versions.length > 1;
  return versions.map((version) =>
    judgeForwarding(version, { forwarding: probeForwarding(version), nat, hasOther })
  );
}

function inspectNetAdmin(): Finding {
  const subject = "CAP_NET_ADMIN";
  try {
    if (probeNetAdmin()) return { verdict: "ok", subject, text: "granted" };
  } catch (error) {
    if (!(error instanceof GinnelError)) throw error;
    return judge(subject, error, "");
  }
  const hint =
    "Grant just that one: setcap cap_net_admin+ep FILE, or AmbientCapabilities=CAP_NET_ADMIN in the " +
    "systemd unit, or docker run --cap-add NET_ADMIN --device /dev/net/tun";
  return { verdict: "fail", subject, text: "not granted", hint };
}

function judge(subject: string, lack: Lack, fine: string): Finding {
  if (lack === undefined) return { verdict: "ok", subject, text: fine };
  const { hint } = lack;
  return { verdict: "fail", subject, text: errorMessage(lack), ...(hint !== undefined && { hint }) };
}
