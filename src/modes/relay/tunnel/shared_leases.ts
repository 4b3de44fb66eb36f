/**
 * The controller gives addresses, so that an identity has the same ones at every relay. The relay remembers those it was
 * told of: while the controller is away its clients come back to them, and only new ones have to wait.
 *
 * An identity may be connected to several relays at once and has one address at all of them. Each relay forwards and
 * translates packets of its own clients, and answers come back to it, so that neither takes from the other: both stay.
 */

import { sleep } from "../../../base/async.ts";
import { errorMessage } from "../../../base/errors.ts";
import { formatIp, type IpAddress, type IpPrefix, parseIp, prefixContains } from "../../../base/ip.ts";
import type { Logger } from "../../../base/log.ts";
import type { ControllerLink, LinkAllocation } from "../../../control/sync/link.ts";
import type { Lease } from "../../../core/ipam.ts";
import { LeaseJournal } from "../../../store/lease_journal.ts";
import { covers, type Grant, type LeaseAuthority } from "./lease_authority.ts";

/** What shared leases need. */
export interface SharedLeasesOptions {
  readonly link: Pick<ControllerLink, "allocate" | "touch">;
  /** File that remembers what the controller said. */
  readonly path: string;
  /** The network's pools: an address outside them cannot be routed here. */
  readonly pools: readonly IpPrefix[];
  readonly logger: Logger;
  /** Milliseconds a client whose addresses are known waits for the controller; default 1 s. */
  readonly patience?: number;
  /** Milliseconds between notes to the controller of who is connected; default 30 s. */
  readonly touchInterval?: number;
}

/** Questions about one identity whose answers are overtaken by releases before the next client has to ask. */
const MAX_ATTEMPTS = 3;

/** Identities named to the controller at once. */
const TOUCH_BATCH = 500;

/** The addresses of one relay's clients, which the controller gives. */
export class SharedLeases implements LeaseAuthority {
  readonly #options: SharedLeasesOptions;
  readonly #journal: LeaseJournal;
  readonly #known = new Map<string, Lease>();
  /** Who has an address, as text: what is another's now is nobody else's any more. */
  readonly #owners = new Map<string, string>();
  /** Connections of each identity that is here. */
  readonly #holds = new Map<string, number>();
  /** Those here whose addresses the controller could not be asked about lately. */
  readonly #unconfirmed = new Set<string>();
  /** Questions on their way, and whether an answer may be older than a release. */
  readonly #asking = new Set<{ readonly identity: string; isOvertaken: boolean }>();
  readonly #timer: ReturnType<typeof setInterval>;
  #confirming: Promise<void> | undefined;
  #onReleased: (identity: string) => void = () => {};
  #isClosed = false;

  private constructor(options: SharedLeasesOptions, journal: LeaseJournal, leases: readonly Lease[]) {
    this.#options = options;
    this.#journal = journal;
    for (const lease of leases) if (this.#fits(lease)) this.#remember(lease);
    this.#timer = setInterval(() => void this.confirm(), options.touchInterval ?? 30_000);
    Deno.unrefTimer(this.#timer);
  }

  /** Reads what an earlier run was told. */
  static async open(options: SharedLeasesOptions): Promise<SharedLeases> {
    const { leases, journal } = await LeaseJournal.open(options.path, { logger: options.logger });
    const oldestFirst = leases.sort((a, b) => a.lastSeen - b.lastSeen);
    const shared = new SharedLeases(options, journal, oldestFirst);
    for (const { identity } of leases) if (!shared.#known.has(identity)) journal.release(identity);
    return shared;
  }

  async acquire(identity: string): Promise<Grant> {
    const asked = this.#ask(identity);
    const isKnown = this.#known.has(identity);
    const answer = isKnown ? await inTime(asked, this.#options.patience ?? 1_000) : await asked;
    if (typeof answer === "string" && answer !== "unavailable") return { ok: false, reason: answer };
    const lease = typeof answer === "string" ? this.#known.get(identity) : answer;
    if (lease === undefined) return { ok: false, reason: "unavailable" };
    this.#holds.set(identity, (this.#holds.get(identity) ?? 0) + 1);
    if (answer === "unavailable") this.#unconfirmed.add(identity);
    return { ok: true, lease, end: () => this.#end(identity) };
  }

  hasLeased(identity: string, addresses: readonly IpAddress[]): boolean {
    return covers(this.#known.get(identity), addresses);
  }

  watch(onReleased: (identity: string) => void): void {
    this.#onReleased = onReleased;
  }

  /** The controller took an identity's addresses back. */
  released(identity: string): void {
    for (const asking of this.#asking) asking.isOvertaken ||= asking.identity === identity;
    this.#forget(identity);
  }

  /** Tells the controller who is connected, and asks again about those it could not be asked about. */
  confirm(): Promise<void> {
    return this.#confirming ??= this.#confirm().finally(() => this.#confirming = undefined);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#timer);
    await this.#journal.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Asks the controller; what it says is remembered, also when nobody waits for it any more. */
  async #ask(identity: string): Promise<Lease | "exhausted" | "unavailable" | "unknown"> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS && !this.#isClosed; attempt++) {
      const asking = { identity, isOvertaken: false };
      this.#asking.add(asking);
      try {
        const result = await this.#options.link.allocate(identity);
        if (!asking.isOvertaken && !this.#isClosed) return this.#hear(identity, result);
      } catch (error) {
        this.#options.logger.debug("lease_not_asked", { identity, detail: errorMessage(error) });
        return "unavailable";
      } finally {
        this.#asking.delete(asking);
      }
    }
    return "unavailable";
  }

  #hear(identity: string, result: LinkAllocation): Lease | "exhausted" | "unavailable" | "unknown" {
    if (!result.ok) {
      this.#forget(identity);
      return result.fault;
    }
    const { virtualIp, virtualIp6, allocatedAt, lastSeenAt } = result.allocation;
    const lease = {
      identity,
      ipv4: virtualIp === null ? null : parseIp(virtualIp) ?? null,
      ipv6: virtualIp6 === null ? null : parseIp(virtualIp6) ?? null,
      since: allocatedAt,
      lastSeen: lastSeenAt,
    };
    if (!this.#fits(lease)) {
      this.#options.logger.error("lease_outside_pools", { identity, virtualIp, virtualIp6 });
      return "unavailable";
    }
    this.#learn(lease);
    return lease;
  }

  /** What the controller says holds: those it contradicts lose their connections. */
  #learn(lease: Lease): void {
    const { identity } = lease;
    const before = this.#known.get(identity);
    if (before !== undefined && !covers(lease, addressesOf(before))) this.#forget(identity);
    for (const address of addressesOf(lease)) {
      const owner = this.#owners.get(formatIp(address));
      if (owner !== undefined && owner !== identity) this.#forget(owner);
    }
    this.#remember(lease);
    this.#unconfirmed.delete(identity);
    this.#journal.record(lease);
  }

  #remember(lease: Lease): void {
    // Of two in the file that claim one address, the one seen last has it.
    for (const address of addressesOf(lease)) {
      const owner = this.#owners.get(formatIp(address));
      if (owner !== undefined && owner !== lease.identity) this.#drop(owner);
    }
    this.#known.set(lease.identity, lease);
    for (const address of addressesOf(lease)) this.#owners.set(formatIp(address), lease.identity);
  }

  #drop(identity: string): void {
    const lease = this.#known.get(identity);
    if (lease === undefined) return;
    this.#known.delete(identity);
    for (const address of addressesOf(lease)) this.#owners.delete(formatIp(address));
  }

  #forget(identity: string): void {
    // Its sessions let go of the addresses before anybody else can be given them.
    if (this.#holds.has(identity)) this.#onReleased(identity);
    this.#drop(identity);
    this.#unconfirmed.delete(identity);
    this.#journal.release(identity);
  }

  #end(identity: string): void {
    const holds = this.#holds.get(identity) ?? 0;
    if (holds > 1) {
      this.#holds.set(identity, holds - 1);
      return;
    }
    this.#holds.delete(identity);
    this.#unconfirmed.delete(identity);
  }

  async #confirm(): Promise<void> {
    for (const identity of [...this.#unconfirmed]) {
      if (this.#isClosed || await this.#ask(identity) === "unavailable") break;
    }
    const here = [...this.#holds.keys()].filter((identity) => !this.#unconfirmed.has(identity));
    try {
      for (let start = 0; start < here.length && !this.#isClosed; start += TOUCH_BATCH) {
        await this.#options.link.touch(here.slice(start, start + TOUCH_BATCH));
      }
    } catch (error) {
      // While it is away another may have been given an address that nobody seemed to use.
      for (const identity of here) if (this.#holds.has(identity)) this.#unconfirmed.add(identity);
      this.#options.logger.debug("leases_not_confirmed", { detail: errorMessage(error) });
    }
  }

  #fits(lease: Lease): boolean {
    const addresses = addressesOf(lease);
    return addresses.length > 0 &&
      addresses.every((address) => this.#options.pools.some((pool) => prefixContains(pool, address)));
  }
}

function addressesOf({ ipv4, ipv6 }: Lease): IpAddress[] {
  return [ipv4, ipv6].filter((address) => address !== null);
}

/** The answer, or that there was none in time. */
async function inTime<T>(answer: Promise<T>, milliseconds: number): Promise<T | "unavailable"> {
  const waiting = new AbortController();
  const late = sleep(milliseconds, { signal: waiting.signal }).then(
    () => "unavailable" as const,
    () => "unavailable" as const,
  );
  try {
    return await Promise.race([answer, late]);
  } finally {
    waiting.abort();
  }
}
