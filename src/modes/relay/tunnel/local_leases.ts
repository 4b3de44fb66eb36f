/** The relay gives addresses by itself, out of its own pools, and remembers them in its lease file. */

import type { IpAddress } from "../../../base/ip.ts";
import type { Logger } from "../../../base/log.ts";
import { Ipam, type IpamOptions } from "../../../core/ipam.ts";
import { LeaseJournal } from "../../../store/lease_journal.ts";
import { covers, type Grant, type LeaseAuthority } from "./lease_authority.ts";

/** Where leases are kept, and who hears of trouble. */
export interface LocalLeasesOptions extends IpamOptions {
  readonly path: string;
  readonly logger: Logger;
}

/** The addresses of one relay. */
export class LocalLeases implements LeaseAuthority {
  readonly #ipam: Ipam;
  readonly #journal: LeaseJournal;
  readonly #logger: Logger;

  private constructor(ipam: Ipam, journal: LeaseJournal, logger: Logger) {
    this.#ipam = ipam;
    this.#journal = journal;
    this.#logger = logger;
  }

  /** Reads the lease file; leases that fit the pools no more are dropped. */
  static async open(options: LocalLeasesOptions): Promise<LocalLeases> {
    const { path, logger } = options;
    const { leases, journal } = await LeaseJournal.open(path, { logger });
    try {
      const ipam = new Ipam(options);
      for (const lost of ipam.restore(leases)) {
        logger.warn("lease_dropped", { identity: lost.identity, reason: "it fits no pool any more" });
        journal.release(lost.identity);
      }
      return new LocalLeases(ipam, journal, logger);
    } catch (error) {
      await journal.close();
      throw error;
    }
  }

  async acquire(identity: string): Promise<Grant> {
    const allocation = this.#ipam.allocate(identity, Date.now());
    if (!allocation.ok) {
      this.#logger.warn("tunnel_pool_exhausted", { pools: this.#ipam.stats() });
      return allocation;
    }
    const { lease, reclaimed } = allocation;
    if (reclaimed !== undefined) this.#journal.release(reclaimed);
    this.#journal.record(lease);
    this.#ipam.hold(identity);
    // What a client is told it has must survive a crash; a disk that fails is in the log, and costs no service.
    await this.#journal.flushed().catch(ignore);
    return { ok: true, lease, end: () => this.#end(identity) };
  }

  hasLeased(identity: string, addresses: readonly IpAddress[]): boolean {
    return covers(this.#ipam.leaseOf(identity), addresses);
  }

  watch(onReleased: (identity: string) => void): void {
    this.#journal.watch((identity) => {
      // Its sessions let go of the addresses before anybody else can be given them.
      onReleased(identity);
      this.#ipam.release(identity);
    });
  }

  close(): Promise<void> {
    return this.#journal.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #end(identity: string): void {
    this.#ipam.unhold(identity, Date.now());
    const left = this.#ipam.leaseOf(identity);
    if (left !== undefined) this.#journal.record(left);
  }
}

function ignore(): void {}
