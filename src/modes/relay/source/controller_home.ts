/** What depends on where a relay's controller lives: the relay's identity, and the link. */

import type { ControllerLink } from "../../../control/sync/link.ts";
import type { Identity } from "../../../identity/identity_file.ts";

/** A relay's own side of its controller. */
export interface ControllerHome extends AsyncDisposable {
  readonly identity: Identity;
  readonly link: ControllerLink;
  /** Calls back when the relay has another certificate. */
  onIdentity(listener: () => void): void;
  /** Takes the network document for the relay itself: what it trusts, and which controllers there are. */
  acceptNetwork(jws: string): void;
  reload(): Promise<void>;
}
