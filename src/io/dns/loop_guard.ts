/**
 * Finds name servers that would ask us again: a stub on this machine that reads the resolv.conf we are in. Each is asked
 * for a random name; where that name comes to our own resolver, it is such a one.
 */

import { withDeadline } from "../../base/async.ts";
import { toHex } from "../../base/bytes.ts";
import { formatIp, type IpAddress, parseIp } from "../../base/ip.ts";
import type { Logger } from "../../base/log.ts";
import { readDnsQuery, writeDnsQuery } from "../../wire/dns/query.ts";
import { askByUdp, type DnsServer } from "./ask_server.ts";

/** What the guard goes by. */
export interface LoopGuardOptions {
  /** The network's DNS zone: probes are names in it, which nobody else answers. */
  readonly zone: () => string;
  readonly logger: Logger;
  /** Tests replace the clock. */
  readonly now?: (() => number) | undefined;
}

/** The label under which probes stand in the zone. */
const PROBE_LABEL = "ginnel-loop";
/** Milliseconds for which a finding holds. */
const FINDING_MS = 60_000;
/** Milliseconds a probe waits for an answer; without one, a server counts as harmless. */
const PROBE_MS = 1_000;
/** Milliseconds for which the list of this machine's addresses is believed. */
const ADDRESSES_MS = 5_000;

/** Tells which servers may be asked. */
export class LoopGuard {
  readonly #zone: () => string;
  readonly #logger: Logger;
  readonly #now: () => number;
  /** Random labels of probes on their way, and whether they came back. */
  readonly #probes = new Map<string, boolean>();
  readonly #findings = new Map<string, { readonly at: number; readonly loops: Promise<boolean> }>();
  readonly #looping = new Set<string>();
  #local: { readonly at: number; readonly addresses: ReadonlySet<string> } | undefined;

  constructor({ zone, logger, now = Date.now }: LoopGuardOptions) {
    this.#zone = zone;
    this.#logger = logger;
    this.#now = now;
  }

  /** Servers that asked us again when they were tried last. */
  get looping(): ReadonlySet<string> {
    return this.#looping;
  }

  /** Tells that our resolver was asked for a name in the zone; true for a probe's. */
  notice(name: string): boolean {
    const end = `.${PROBE_LABEL}.${this.#zone()}`;
    if (!name.endsWith(end)) return false;
    const label = name.slice(0, -end.length);
    if (this.#probes.has(label)) this.#probes.set(label, true);
    return true;
  }

  /** Whether a server would ask us again; those on other machines cannot. */
  async leadsBack(server: DnsServer): Promise<boolean> {
    if (!this.#isLocal(server.address)) return false;
    const key = `${formatIp(server.address)} ${server.port ?? 53}`;
    const now = this.#now();
    const known = this.#findings.get(key);
    if (known !== undefined && Math.abs(now - known.at) < FINDING_MS) return await known.loops;
    const loops = this.#probe(server);
    this.#findings.set(key, { at: now, loops });
    const result = await loops;
    const address = formatIp(server.address);
    if (result) this.#looping.add(address);
    else this.#looping.delete(address);
    if (result) this.#logger.warn("dns_server_loops", { server: address });
    return result;
  }

  async #probe(server: DnsServer): Promise<boolean> {
    const label = toHex(crypto.getRandomValues(new Uint8Array(12)));
    const query = readDnsQuery(writeDnsQuery(`${label}.${PROBE_LABEL}.${this.#zone()}`, 0))!;
    this.#probes.set(label, false);
    try {
      await withDeadline(PROBE_MS, (signal) => askByUdp(server, { query, signal }));
    } catch (error) {
      this.#logger.debug("dns_probe_unanswered", { server: formatIp(server.address), reason: String(error) });
    }
    const loops = this.#probes.get(label) === true;
    this.#probes.delete(label);
    return loops;
  }

  #isLocal({ version, value }: IpAddress): boolean {
    if (version === 4 ? value >> 24n === 127n : value === 1n) return true;
    const now = this.#now();
    if (this.#local === undefined || Math.abs(now - this.#local.at) >= ADDRESSES_MS) {
      const found = Deno.networkInterfaces().map(({ address }) => parseIp(address));
      const addresses = new Set(found.flatMap((address) => address === undefined ? [] : [formatIp(address)]));
      this.#local = { at: now, addresses };
    }
    return this.#local.addresses.has(formatIp({ version, value }));
  }
}
