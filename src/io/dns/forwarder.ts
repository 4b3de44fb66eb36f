/** Asks other name servers what is none of ours: one after the other, until somebody knows or the time is up. */

import { DeadlineError, sleep, withDeadline } from "../../base/async.ts";
import { errorMessage } from "../../base/errors.ts";
import { formatIp, type IpAddress } from "../../base/ip.ts";
import type { Logger } from "../../base/log.ts";
import { DNS_RCODE } from "../../wire/dns/codes.ts";
import type { DnsQuery } from "../../wire/dns/query.ts";
import { withDnsId } from "../../wire/dns/response_view.ts";
import { askByTcp, askByUdp, type DnsServer, type DnsServerAnswer } from "./ask_server.ts";
import { LoopGuard } from "./loop_guard.ts";

/** Whom to ask, and whom never. */
export interface DnsForwarderOptions {
  /** The servers this machine had before us, best first; asked for each query. */
  readonly servers: () => Promise<readonly DnsServer[]>;
  /** Our resolver's own addresses. */
  readonly own: () => readonly IpAddress[];
  /** The network's DNS zone. */
  readonly zone: () => string;
  readonly logger: Logger;
  readonly now?: () => number;
  /** Milliseconds until a query ends without an answer; default 5,000. */
  readonly deadline?: number;
}

/** Queries on their way. */
const MAX_IN_FLIGHT = 1_024;
const DEADLINE_MS = 5_000;
/** Milliseconds after which the next server is asked. */
const PATIENCE_MS = 1_500;
/** Servers of a list that are asked; libc itself knows three. */
const MAX_SERVERS = 8;
/** Milliseconds to wait where every server failed at once: a network may just be coming up. */
const PAUSE_MS = 250;
/** Codes by which a server says that another one may know better. */
const UNHELPFUL: readonly number[] = [DNS_RCODE.SERVFAIL, DNS_RCODE.NOTIMP, DNS_RCODE.REFUSED];

/** Forwards queries. */
export class DnsForwarder implements Disposable {
  readonly #options: DnsForwarderOptions;
  readonly #guard: LoopGuard;
  readonly #ending = new AbortController();
  #inFlight = 0;
  /** The server that knew last: it is asked first. */
  #preferred: string | undefined;

  constructor(options: DnsForwarderOptions) {
    this.#options = options;
    this.#guard = new LoopGuard(options);
  }

  /** Queries on their way. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Servers that are not asked, since they would ask us again. */
  get looping(): ReadonlySet<string> {
    return this.#guard.looping;
  }

  /** Tells that our resolver was asked for a name in the zone; true where that was a search for loops. */
  noticeProbe(name: string): boolean {
    return this.#guard.notice(name);
  }

  /**
   * Asks for an answer with the query's own id; `undefined` where nobody gave one in time. Never rejects. The query's
   * bytes must stay as they are until then.
   */
  async forward(
    query: DnsQuery,
    { viaTcp }: { readonly viaTcp: boolean },
  ): Promise<Uint8Array<ArrayBuffer> | undefined> {
    if (this.#inFlight >= MAX_IN_FLIGHT || this.#ending.signal.aborted) return undefined;
    this.#inFlight++;
    const found: { worse?: DnsServerAnswer } = {};
    try {
      const answer = await withDeadline(
        this.#options.deadline ?? DEADLINE_MS,
        (signal) => this.#ask(query, { viaTcp, signal, found }),
        { signal: this.#ending.signal },
      );
      return answer && withDnsId(answer.bytes, idOf(query));
    } catch (error) {
      if (!(error instanceof DeadlineError) && !this.#ending.signal.aborted) {
        this.#options.logger.warn("dns_forward_failed", { reason: errorMessage(error) });
      }
      return found.worse && withDnsId(found.worse.bytes, idOf(query));
    } finally {
      this.#inFlight--;
    }
  }

  /** Gives up all queries. */
  [Symbol.dispose](): void {
    this.#ending.abort(new Error("The resolver has ended"));
  }

  async #ask(query: DnsQuery, state: AskState): Promise<DnsServerAnswer | undefined> {
    for (;;) {
      state.signal.throwIfAborted();
      const servers = await this.#usable();
      if (servers.length === 0) return undefined;
      const began = performance.now();
      let refusals = 0;
      for (const server of servers) {
        const answer = await this.#askOne(server, query, state);
        if (answer === undefined) continue;
        if (!UNHELPFUL.includes(answer.rcode)) {
          this.#preferred = keyOf(server);
          return answer;
        }
        state.found.worse ??= answer;
        refusals++;
      }
      // All have spoken.
      if (refusals === servers.length) return state.found.worse;
      if (performance.now() - began < PAUSE_MS) await sleep(PAUSE_MS, { signal: state.signal });
    }
  }

  async #askOne(
    server: DnsServer,
    query: DnsQuery,
    { viaTcp, signal }: AskState,
  ): Promise<DnsServerAnswer | undefined> {
    try {
      const answer = await withDeadline(PATIENCE_MS, (until) => askByUdp(server, { query, signal: until }), {
        signal,
      });
      // By UDP the asker gets the truncated answer and comes back by TCP itself.
      if (!answer.truncated || !viaTcp) return answer;
      return await withDeadline(2 * PATIENCE_MS, (until) => askByTcp(server, { query, signal: until }), {
        signal,
      });
    } catch (error) {
      signal.throwIfAborted();
      const reason = errorMessage(error);
      this.#options.logger.debug("dns_server_failed", { server: formatIp(server.address), reason });
      return undefined;
    }
  }

  /** The servers that may be asked, the one that knew last in front. */
  async #usable(): Promise<DnsServer[]> {
    const own = new Set(this.#options.own().map(formatIp));
    const servers = (await this.#options.servers()).slice(0, MAX_SERVERS)
      .filter(({ address }) => !own.has(formatIp(address)));
    const loops = await Promise.all(servers.map((server) => this.#guard.leadsBack(server)));
    const usable = servers.filter((_, i) => !loops[i]);
    const first = usable.findIndex((server) => keyOf(server) === this.#preferred);
    if (first > 0) usable.unshift(...usable.splice(first, 1));
    return usable;
  }
}

interface AskState {
  readonly viaTcp: boolean;
  readonly signal: AbortSignal;
  /** What is said in the end where nobody knew better. */
  readonly found: { worse?: DnsServerAnswer };
}

function keyOf({ address, port }: DnsServer): string {
  return `${formatIp(address)} ${port}`;
}

function idOf({ bytes }: DnsQuery): number {
  return (bytes[0]! << 8) | bytes[1]!;
}
