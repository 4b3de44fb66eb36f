/** Which tunnel session belongs to an address and to an identity. An identity has one session: a new one takes over. */

import { formatIp, type IpAddress, type IpVersion, ipWords } from "../base/ip.ts";
import { AddressIndex } from "./address_index.ts";

/** A session to add. */
export interface Registration<S> {
  /** Its SPIFFE ID. */
  readonly identity: string;
  /** The addresses assigned to it. */
  readonly addresses: readonly IpAddress[];
  readonly session: S;
}

/** The live tunnel sessions of a relay by address and by identity, each found in constant time. */
export class TunnelRegistry<S> {
  readonly #byAddress = new AddressIndex<Registration<S>>();
  readonly #byIdentity = new Map<string, Registration<S>>();
  readonly #bySession = new Map<S, Registration<S>>();

  /** How many sessions there are. */
  get size(): number {
    return this.#byIdentity.size;
  }

  /**
   * Adds a session and returns the one of the same identity that it replaces, which its owner ends. Throws `TypeError`
   * when an address belongs to the session of another identity: addresses never move while they are in use.
   */
  add(registration: Registration<S>): S | undefined {
    const { identity, addresses, session } = registration;
    if (this.#bySession.has(session)) throw new TypeError(`Cannot add a session of ${identity} twice`);
    for (const address of addresses) {
      const owner = this.#byAddress.get(address.version, ...ipWords(address));
      if (owner !== undefined && owner.identity !== identity) {
        throw new TypeError(`Cannot give ${formatIp(address)} to ${identity}: ${owner.identity} has it`);
      }
    }
    const replaced = this.#byIdentity.get(identity);
    if (replaced !== undefined) this.#forget(replaced);
    this.#byIdentity.set(identity, registration);
    this.#bySession.set(session, registration);
    for (const address of addresses) this.#byAddress.set(address.version, ipWords(address), registration);
    return replaced?.session;
  }

  /** Removes a session; one that was replaced is gone already. Returns whether it was there. */
  remove(session: S): boolean {
    const registration = this.#bySession.get(session);
    if (registration === undefined) return false;
    this.#forget(registration);
    return true;
  }

  /** The session that has an address, given by the words of a packet view; allocates nothing. */
  byAddress(version: IpVersion, w0: number, w1: number, w2: number, w3: number): S | undefined {
    return this.#byAddress.get(version, w0, w1, w2, w3)?.session;
  }

  /** The session of an identity. */
  byIdentity(identity: string): S | undefined {
    return this.#byIdentity.get(identity)?.session;
  }

  /** All sessions, oldest first. */
  sessions(): IterableIterator<S> {
    return this.#bySession.keys();
  }

  #forget({ identity, addresses, session }: Registration<S>): void {
    this.#byIdentity.delete(identity);
    this.#bySession.delete(session);
    for (const address of addresses) this.#byAddress.delete(address.version, ipWords(address));
  }
}
