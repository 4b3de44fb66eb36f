/**
 * The form of a journal: plain texts and numbers. Whatever is read back is checked as strictly as a peer's bytes,
 * because it is turned into commands that run with our rights.
 */

import { parseIp, parsePrefix } from "../../base/ip.ts";

/** Everything that one interface's set-up leaves outside its process. */
export interface JournalData {
  /** The interface as it was before us: one that somebody keeps ready for us outlives the process. */
  readonly interface?: InterfaceBefore;
  /** Addresses that have a host route of ours. */
  readonly pins?: readonly string[];
  /** There is an nftables table for NAT, and these settings were changed for it. */
  readonly nat?: { readonly settings: readonly SettingChange[] };
  /** There is an nftables table that lets nothing leave outside the tunnel. */
  readonly killSwitch?: true;
  /** Prefixes that have a route which refuses what no other leads anywhere. */
  readonly refused?: readonly string[];
  readonly resolver?: ResolverBefore;
}

/** An interface's state, as texts. */
export interface InterfaceBefore {
  readonly up: boolean;
  readonly mtu: number;
  readonly addressGeneration: string;
  /** `address/length`, host bits included. */
  readonly addresses: readonly string[];
}

/** A setting below /proc/sys that we changed, or that changes along with one. */
export interface SettingChange {
  readonly path: string;
  readonly before: string;
  readonly after: string;
}

/** How names were resolved before us. */
export type ResolverBefore =
  | { readonly kind: "resolved" }
  /** NetworkManager was told of our servers. */
  | { readonly kind: "networkmanager" }
  /** The file was renamed and another put in its place. */
  | { readonly kind: "renamed" }
  /** The file was written over: this stood there; `null` where there was none. */
  | { readonly kind: "overwritten"; readonly text: string | null };

/** Longest resolv.conf that is kept: libc itself reads no more lines than fit. */
export const MAX_RESOLVER_TEXT = 65_536;

/** Interfaces' own settings that switching forwarding on touches, and the two switches. */
const SETTING =
  /^net\/(?:ipv4\/ip_forward|ipv[46]\/conf\/(?!\.{1,2}\/)[^/\0\s]{1,15}\/(?:forwarding|accept_ra|accept_redirects))$/;

/** Reads a journal's text; `undefined` when any part of it is not as we write it. */
export function readJournalData(text: string): JournalData | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  if (!isRecord(value)) return undefined;
  const readers: Readonly<Record<string, (part: unknown) => boolean>> = {
    interface: isInterface,
    pins: (part) => isListOf(part, (item) => typeof item === "string" && parseIp(item) !== undefined),
    nat: (part) => isRecord(part) && isListOf(part["settings"], isSetting),
    killSwitch: (part) => part === true,
    refused: (part) => isListOf(part, (item) => typeof item === "string" && parsePrefix(item) !== undefined),
    resolver: isResolver,
  };
  const fits = Object.entries(value).every(([key, part]) =>
    Object.hasOwn(readers, key) && readers[key]!(part)
  );
  return fits ? value as JournalData : undefined;
}

/** The address and length of `address/length`. */
export function readHostPrefix(text: string): { address: ReturnType<typeof parseIp>; length: number } {
  const slash = text.indexOf("/");
  return { address: parseIp(text.slice(0, slash)), length: Number(text.slice(slash + 1)) };
}

function isInterface(part: unknown): boolean {
  return isRecord(part) && typeof part["up"] === "boolean" && isCount(part["mtu"]) &&
    /^[a-z0-9_]{1,16}$/.test(String(part["addressGeneration"])) &&
    isListOf(part["addresses"], isHostPrefix);
}

function isHostPrefix(item: unknown): boolean {
  if (typeof item !== "string" || !/^[0-9a-f.:]+\/\d{1,3}$/.test(item)) return false;
  const { address, length } = readHostPrefix(item);
  return address !== undefined && length <= (address.version === 4 ? 32 : 128);
}

function isSetting(item: unknown): boolean {
  return isRecord(item) && SETTING.test(String(item["path"])) &&
    [item["before"], item["after"]].every((value) => typeof value === "string" && /^-?\d{1,3}$/.test(value));
}

function isResolver(part: unknown): boolean {
  if (!isRecord(part)) return false;
  if (["resolved", "networkmanager", "renamed"].includes(String(part["kind"]))) return true;
  const text = part["text"];
  return part["kind"] === "overwritten" &&
    (text === null || (typeof text === "string" && text.length <= MAX_RESOLVER_TEXT));
}

function isListOf(value: unknown, test: (item: unknown) => boolean): boolean {
  return Array.isArray(value) && value.every(test);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): boolean {
  return typeof value === "number" && Number.isInteger(value) && value >= 0;
}
