/** The links of all remote relays of a controller, one for each, whatever connections their requests come by. */

import { LocalLink, type LocalLinkOptions } from "./local_link.ts";

/** Links by relay. */
export class RelayLinks {
  readonly #options: Omit<LocalLinkOptions, "relay" | "serial">;
  readonly #links = new Map<string, { readonly link: LocalLink; serial: string }>();

  constructor(options: Omit<LocalLinkOptions, "relay" | "serial">) {
    this.#options = options;
  }

  /** The link of a relay (SPIFFE ID) that has just proven itself with the certificate of this serial. */
  of(relay: string, serial: string): LocalLink {
    const known = this.#links.get(relay);
    if (known !== undefined) {
      known.serial = serial;
      return known.link;
    }
    const link = new LocalLink({
      ...this.#options,
      relay,
      serial: () => this.#links.get(relay)?.serial,
    });
    this.#links.set(relay, { link, serial });
    return link;
  }
}
