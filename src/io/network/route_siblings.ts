/**
 * The interfaces of one process, as far as their routes have to do with one another: none counts as a way outside for
 * another, and an address that several of them keep outside has one host route, which goes with the last of them.
 */

import { formatIp, type IpAddress } from "../../base/ip.ts";
import { Serial } from "./serial.ts";

/** What one interface has to know of the others. */
export interface Siblings {
  readonly interfaces: ReadonlySet<string>;
  /** Addresses that others keep outside. */
  readonly pinned: readonly IpAddress[];
}

/** The interfaces of this process. */
export class RouteSiblings {
  readonly #serial = new Serial();
  readonly #pinned = new Map<string, readonly IpAddress[]>();

  /** Runs a step that reads and changes routes; one after the other. */
  run<T>(step: () => Promise<T>): Promise<T> {
    return this.#serial.run(step);
  }

  /** Tells what an interface keeps outside from now on; `undefined`: it is gone. */
  set(interfaceName: string, pinned: readonly IpAddress[] | undefined): void {
    if (pinned === undefined) this.#pinned.delete(interfaceName);
    else this.#pinned.set(interfaceName, pinned);
  }

  /** All but that one. */
  of(interfaceName: string): Siblings {
    const others = [...this.#pinned].filter(([name]) => name !== interfaceName);
    const pinned = new Map(others.flatMap(([, list]) => list.map((address) => [formatIp(address), address])));
    return { interfaces: new Set(others.map(([name]) => name)), pinned: [...pinned.values()] };
  }
}
