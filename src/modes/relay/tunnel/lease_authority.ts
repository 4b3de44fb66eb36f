/** Who gives tunnels their addresses, as tunnels see it: the relay itself, or the controller that relays share. */

import type { IpAddress } from "../../../base/ip.ts";
import type { Lease } from "../../../core/ipam.ts";

/** An identity's addresses while it is connected, or why it gets none. */
export type Grant =
  | {
    readonly ok: true;
    readonly lease: Lease;
    /** The connection is gone; to be called once. */
    end(): void;
  }
  | {
    readonly ok: false;
    /** `unavailable`: nobody can say; `unknown`: whoever gives addresses does not know the identity. */
    readonly reason: "exhausted" | "unavailable" | "unknown";
  };

/** Gives addresses, the same to the same identity, and keeps them for it. */
export interface LeaseAuthority extends AsyncDisposable {
  /** Addresses for one more connection of an identity (SPIFFE ID); nobody else gets them until its grant ends. */
  acquire(identity: string): Promise<Grant>;
  /** Whether an identity still has these addresses. */
  hasLeased(identity: string, addresses: readonly IpAddress[]): boolean;
  /**
   * Tells of each identity that loses its addresses from now on. The listener ends its connections at once: the
   * addresses may be another's right after it.
   */
  watch(onReleased: (identity: string) => void): void;
  close(): Promise<void>;
}

/** Whether a lease covers all of these addresses. */
export function covers(lease: Lease | undefined, addresses: readonly IpAddress[]): boolean {
  return addresses.every(({ version, value }) =>
    (version === 4 ? lease?.ipv4 : lease?.ipv6)?.value === value
  );
}
