/**
 * Whether this machine forwards packets, how to make it, and what else stands in the way. Switching forwarding on
 * changes more than the switch: what changes along with it is planned, remembered and put back too.
 */

import type { IpVersion } from "../../base/ip.ts";
import type { SettingChange } from "./journal_data.ts";
import type { KernelFiles } from "./libc.ts";

/** Root of all settings. */
const SETTINGS_ROOT = "/proc/sys/";

/** The file that switches each version's forwarding. */
export const FORWARDING_SWITCH: Readonly<Record<IpVersion, string>> = {
  4: "net/ipv4/ip_forward",
  6: "net/ipv6/conf/all/forwarding",
};

/** Tells whether packets of a version are forwarded; `undefined` where the kernel has no such version. */
export function isForwarding(version: IpVersion, files: KernelFiles): boolean | undefined {
  const value = files.read(`${SETTINGS_ROOT}${FORWARDING_SWITCH[version]}`);
  return value === undefined ? undefined : value !== "0";
}

/**
 * The settings to write, in order, and those that change by themselves (`before` equals `after`, to be put back);
 * empty where forwarding is on. `interfaces` are all of this machine's.
 */
export function planForwarding(
  version: IpVersion,
  { files, interfaces }: { readonly files: KernelFiles; readonly interfaces: readonly string[] },
): SettingChange[] {
  const path = FORWARDING_SWITCH[version];
  if (isForwarding(version, files) !== false) return [];
  const read = (setting: string) => files.read(`${SETTINGS_ROOT}${setting}`);
  const kept = (setting: string): SettingChange[] => {
    const before = read(setting);
    return before === undefined ? [] : [{ path: setting, before, after: before }];
  };
  const each = ["default", ...interfaces];
  const own = each.flatMap((name) => kept(`net/ipv${version}/conf/${name}/forwarding`));
  const main = { path, before: "0", after: "1" };
  if (version === 4) return [main, ...own, ...kept("net/ipv4/conf/all/accept_redirects")];
  // A router ignores router advertisements, and would lose its own default route: 2 means "nevertheless".
  const advertised = each.flatMap((name): SettingChange[] => {
    const setting = `net/ipv6/conf/${name}/accept_ra`;
    return read(setting) === "1" ? [{ path: setting, before: "1", after: "2" }] : [];
  });
  return [...advertised, main, ...own];
}

/** Writes what `changes` want; throws where the kernel refuses. */
export function writeSettings(changes: readonly SettingChange[], files: KernelFiles): void {
  for (const { path, before, after } of changes) {
    if (before !== after) files.write(`${SETTINGS_ROOT}${path}`, after);
  }
}

/**
 * Puts settings back, the switch first, since it takes others along. A switch or setting that somebody else has changed
 * since stays as it is; an interface that is gone has none.
 */
export function restoreSettings(changes: readonly SettingChange[], files: KernelFiles): void {
  const switches = Object.values(FORWARDING_SWITCH);
  const first = changes.filter(({ path }) => switches.includes(path));
  const rest = changes.filter(({ path }) => !switches.includes(path));
  for (const { path, before, after } of [...first, ...rest]) {
    const now = files.read(`${SETTINGS_ROOT}${path}`);
    const ours = before === after || now === after;
    if (now !== undefined && now !== before && ours) files.write(`${SETTINGS_ROOT}${path}`, before);
  }
}

/** What hooks into forwarding besides us and drops what it does not know, as `FAMILY TABLE CHAIN`: by `nft -json list chains`. */
export function droppingChains(text: string, ownTables: readonly string[]): string[] {
  const { nftables } = JSON.parse(text) as { nftables?: { chain?: Readonly<Record<string, unknown>> }[] };
  return (nftables ?? []).flatMap(({ chain }) => {
    if (chain?.["hook"] !== "forward" || chain["policy"] !== "drop") return [];
    return ownTables.includes(String(chain["table"]))
      ? []
      : [`${chain["family"]} ${chain["table"]} ${chain["name"]}`];
  });
}
