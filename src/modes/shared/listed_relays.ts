/** The relays that the network lists for nodes whose config names none. */

import { parseHostPort } from "../../base/address.ts";
import type { Identity } from "../../identity/identity_file.ts";
import type { RelayAddress } from "./relay_client.ts";

/** Reads the list of an identity file; a relay whose address cannot be read is left out. */
export function listedRelays({ network }: Pick<Identity, "network">): readonly RelayAddress[] {
  return (network?.relays ?? []).flatMap(({ name, address }) => {
    try {
      return [{ name, address: parseHostPort(address) }];
    } catch {
      // A newer network may know kinds of addresses that we do not.
      return [];
    }
  });
}
