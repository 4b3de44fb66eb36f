/**
 * Which identities the words of an egress policy mean: a full SPIFFE ID, `agent/alice`, `alice` (any agent or user of
 * that name), `#attribute`, `#all` (every agent and user).
 */

import type { EgressIdentity } from "./document.ts";

/** The word for every agent and user of the network. */
export const EVERYBODY = "#all";

/** Kinds that bare names and {@linkcode EVERYBODY} mean: what people use. */
const PEOPLE = new Set(["agent", "user"]);

/**
 * The exact words that mean `identity`, the most exact first. Names and {@linkcode EVERYBODY} mean identities of the
 * network's own trust domain only; relays, which carry other people's packets, are meant by no word.
 */
export function wordsFor(identity: EgressIdentity, trustDomain: string): readonly string[] {
  const { uri, kind, name } = identity;
  if (kind === "relay") return [];
  if (!uri.startsWith(`spiffe://${trustDomain}/`)) return [uri];
  return PEOPLE.has(kind) ? [uri, `${kind}/${name}`, name, EVERYBODY] : [uri, `${kind}/${name}`];
}

/** A list of words, matched against one identity. */
export class IdentityMatcher {
  readonly #words: ReadonlySet<string>;
  readonly #attributes: readonly string[];
  readonly #trustDomain: string;

  constructor(words: readonly string[], trustDomain: string) {
    this.#words = new Set(words);
    this.#attributes = words.filter((word) => word.startsWith("#") && word !== EVERYBODY)
      .map((word) => word.slice(1));
    this.#trustDomain = trustDomain;
  }

  /** Tells whether one of the words means `identity`. */
  matches(identity: EgressIdentity): boolean {
    if (identity.kind === "relay") return false;
    return wordsFor(identity, this.#trustDomain).some((word) => this.#words.has(word)) ||
      this.#attributes.some((attribute) => identity.attributes.has(attribute));
  }
}
