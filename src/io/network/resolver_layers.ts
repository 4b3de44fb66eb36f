/**
 * Who of this process has the machine's resolver, where only one can: the services' resolver goes before a tunnel's name
 * servers, which it asks in turn.
 */

import type { IpAddress } from "../../base/ip.ts";
import { Serial } from "./serial.ts";

/** One claim to the resolver. */
export interface ResolverLayer {
  readonly kind: "tunnel" | "services";
  /** The name servers that it brings. */
  readonly servers: readonly IpAddress[];
  /** Puts it in force, again and again. */
  apply(): Promise<void>;
  /** Puts back what was there. */
  remove(): Promise<void>;
}

/** The claims of this process; at most one is in force. */
export class ResolverLayers {
  readonly #serial = new Serial();
  readonly #layers = new Map<object, ResolverLayer>();
  #inForce: object | undefined;

  /** Claims the resolver for `owner`, or gives the claim up; rejects as putting it in force does. */
  set(owner: object, layer: ResolverLayer | undefined): Promise<void> {
    return this.#serial.run(async () => {
      if (layer === undefined && !this.#layers.has(owner)) return;
      const before = this.#layers.get(owner);
      if (layer === undefined) this.#layers.delete(owner);
      else this.#layers.set(owner, layer);
      try {
        await this.#settle(owner, before ?? layer);
      } catch (error) {
        if (layer === undefined) throw error;
        // Who cannot have it must not keep others from it.
        this.#layers.delete(owner);
        await this.#settle(owner, layer).catch(() => {});
        throw error;
      }
    });
  }

  /** The name servers of tunnels: whom the services' resolver asks, where there are any. */
  tunnelServers(): readonly IpAddress[] {
    return [...this.#layers.values()].filter(({ kind }) => kind === "tunnel").flatMap(({ servers }) =>
      servers
    );
  }

  /** Puts the right claim in force; `last` is what `owner` had in force, if it had. */
  async #settle(owner: object, last: ResolverLayer | undefined): Promise<void> {
    const entries = [...this.#layers];
    const top = entries.find(([, { kind }]) => kind === "services") ?? entries[0];
    if (this.#inForce !== undefined && this.#inForce !== top?.[0]) {
      const leaving = this.#inForce === owner ? last : this.#layers.get(this.#inForce);
      this.#inForce = undefined;
      await leaving?.remove();
    }
    if (top === undefined) return;
    this.#inForce = top[0];
    await top[1].apply();
  }
}
