/** Makes the signed network document out of the network's state, and again whenever what it says changes. */

import { foreignTrust } from "../../core/network/foreign_trust.ts";
import type { NetworkState } from "../../core/network/state.ts";
import type { Authority } from "../../identity/authority.ts";
import { type NetworkDocument, signNetworkDocument } from "../../identity/network_document.ts";

/** What the state does not hold. */
export interface NetworkPublisherOptions {
  /** Who signs now; further public keys that may sign, as in a change of authority. */
  readonly authority: () => Authority;
  readonly otherAuthorities?: () => NetworkDocument["authorities"];
  /** Where nodes find controllers: also asked for at each publication. */
  readonly controllers: () => NetworkDocument["controllers"];
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** Relays a network document can name; nodes that get no relay list of their own need the first of them. */
const MAX_RELAYS = 1_024;

/** Revoked serials a network document can name. */
const MAX_REVOKED = 16_384;

/** The network document of one controller. */
export class NetworkPublisher {
  readonly #options: NetworkPublisherOptions;
  #content = "";
  #jws: string | undefined;
  #inputs: readonly unknown[] = [];

  constructor(options: NetworkPublisherOptions) {
    this.#options = options;
  }

  /** The document as last published. */
  get jws(): string | undefined {
    return this.#jws;
  }

  /** Signs the document of a state; undefined when it says what the last one said. */
  async publish(state: NetworkState): Promise<string | undefined> {
    const { authority, otherAuthorities, controllers, now } = this.#options;
    const signer = authority();
    const others = otherAuthorities?.() ?? [];
    const inputs = [state.identities, state.trustDomains, state.roots, state.revoked, signer.kid];
    const surroundings = { controllers: controllers(), authorities: [signer.publicJwk, ...others] };
    const isUntouched = inputs.every((input, index) => input === this.#inputs[index]) &&
      this.#content.startsWith(JSON.stringify(surroundings));
    if (isUntouched) return undefined;
    const statement = { ...surroundings, ...describe(state) };
    const content = JSON.stringify(surroundings) + JSON.stringify(statement);
    this.#inputs = inputs;
    if (content === this.#content) return undefined;
    const document = { rev: state.revision, iat: Math.floor(now() / 1000), ...statement };
    const jws = await signNetworkDocument(signer, document);
    this.#content = content;
    this.#jws = jws;
    return jws;
  }
}

function describe(state: NetworkState): Omit<NetworkDocument, "rev" | "iat" | "controllers" | "authorities"> {
  const relays: NetworkDocument["relays"][number][] = [];
  for (const { name, spec } of state.identities.values()) {
    if (spec.type === "relay" && !spec.disabled && spec.address !== null && relays.length < MAX_RELAYS) {
      relays.push({ name, address: spec.address });
    }
  }
  const trustDomains = foreignTrust(state).map(({ domain, roots }) => ({ name: domain, roots }));
  return {
    trustDomain: state.trustDomain,
    roots: state.roots,
    relays,
    trustDomains,
    revoked: [...state.revoked].slice(-MAX_REVOKED),
  };
}
