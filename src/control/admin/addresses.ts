/** Tunnel addresses as administrators and relays of other makes ask for them. */

import { ipBits, parsePrefix } from "../../base/ip.ts";
import type { Outcome, WriteContext } from "../../core/network/administration.ts";
import type { AddressAllocation } from "../store.ts";
import type { AdminContext } from "./admin_context.ts";

/** How the pools are used. */
export interface PoolSummary {
  readonly ipv4: string | null;
  readonly ipv6: string | null;
  readonly allocated: number;
  /** Addresses the smaller pool can give in all. */
  readonly capacity: number;
  readonly oldestSeenAt: number | null;
}

/** Addresses of a pool that are never given: the network, the gateway and, of IPv4, broadcast. */
const KEPT = { 4: 3, 6: 2 };

/** Gives and takes addresses. */
export class Addresses {
  readonly #context: AdminContext;

  constructor(context: AdminContext) {
    this.#context = context;
  }

  async allocate(
    clientId: string,
    metadata: Readonly<Record<string, unknown>>,
    { by }: WriteContext,
  ): Promise<Outcome<{ readonly allocation: AddressAllocation; readonly isNew: boolean }>> {
    const { store, allocation: optionsFor, now } = this.#context.options;
    const result = await store.allocateAddress(clientId, { ...optionsFor(clientId, now()), metadata });
    if (!result.ok) return { ok: false, fault: "exhausted" };
    const { allocation, isNew, reclaimed } = result;
    if (isNew) {
      const { virtualIp, virtualIp6 } = allocation;
      await this.#note(by, clientId, { action: "allocate", detail: { virtualIp, virtualIp6, reclaimed } });
    }
    return { ok: true, value: { allocation, isNew } };
  }

  async refresh(clientId: string): Promise<Outcome<AddressAllocation>> {
    const { store, now } = this.#context.options;
    if (!await store.refreshAddress(clientId, now())) return { ok: false, fault: "missing" };
    return found(await store.addressOf(clientId));
  }

  async release(clientId: string, { by }: WriteContext): Promise<Outcome<AddressAllocation>> {
    const { store } = this.#context.options;
    const before = found(await store.addressOf(clientId));
    if (by.role === "relay" && await this.#isUsedElsewhere(clientId, by.who)) {
      return { ok: false, fault: "conflict", detail: "Another relay has a session of this client" };
    }
    if (!before.ok || !await store.releaseAddress(clientId)) return { ok: false, fault: "missing" };
    const { virtualIp, virtualIp6 } = before.value;
    await this.#note(by, clientId, { action: "release", detail: { virtualIp, virtualIp6 } });
    return before;
  }

  async stats(): Promise<PoolSummary> {
    const { store, allocation, now } = this.#context.options;
    const { ipv4, ipv6 } = allocation("", now());
    const capacities = [ipv4, ipv6].flatMap((pool) => pool === null ? [] : [capacityOf(pool)]);
    const capacity = capacities.length === 0 ? 0 : Math.min(...capacities);
    const { allocated, oldestSeenAt } = await store.addressStats();
    return { ipv4, ipv6, allocated, oldestSeenAt, capacity };
  }

  async #isUsedElsewhere(clientId: string, relay: string): Promise<boolean> {
    const { store } = this.#context.options;
    const { items } = await store.sessions({ identity: clientId, open: true, limit: 100 });
    return items.some((session) => session.relay !== relay);
  }

  async #note(
    by: WriteContext["by"],
    clientId: string,
    { action, detail }: { readonly action: string; readonly detail: Readonly<Record<string, unknown>> },
  ): Promise<void> {
    await this.#context.note(by, { action, target: `address/${clientId}`, detail });
  }
}

function found(allocation: AddressAllocation | undefined): Outcome<AddressAllocation> {
  return allocation === undefined ? { ok: false, fault: "missing" } : { ok: true, value: allocation };
}

function capacityOf(pool: string): number {
  const prefix = parsePrefix(pool);
  if (prefix === undefined) return 0;
  const hostBits = ipBits(prefix.version) - prefix.length;
  // Beyond what a number holds exactly nobody counts.
  return Math.max(0, 2 ** Math.min(hostBits, 52) - KEPT[prefix.version]);
}
