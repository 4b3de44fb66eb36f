/**
 * Which identities the words of an egress policy mean: a full SPIFFE ID, `agent/alice`, `alice` (any agent or user of
 * that name), `#attribute`, `#all` (every agent and user). Where users come from logins `alice` means no user: providers
 * give them their names.
 */

import type { EgressIdentity } from "./document.ts";

/** The word for every agent and user of the network. */
export const EVERYBODY = "#all";

/** Kinds that bare names and {@linkcode EVERYBODY} mean: what people use. */
const PEOPLE = new Set(["agent", "user"]);

/** Whom bare names may mean. */
export interface NameScope {
  /** Names and {@linkcode EVERYBODY} mean identities of this trust domain only. */
  readonly trustDomain: string;
  /** Users come from logins: a bare name means an agent. */
  readonly hasLogins?: boolean | undefined;
}

/**
 * The exact words that mean `identity`, the most exact first; relays, which carry other people's packets, are meant by no
 * word.
 */
export function wordsFor(identity: EgressIdentity, scope: NameScope): readonly string[] {
  const { uri, kind, name } = identity;
  if (kind === "relay") return [];
  if (!uri.startsWith(`spiffe://${scope.trustDomain}/`)) return [uri];
  if (!PEOPLE.has(kind)) return [uri, `${kind}/${name}`];
  return kind === "user" && scope.hasLogins === true
    ? [uri, `${kind}/${name}`, EVERYBODY]
    : [uri, `${kind}/${name}`, name, EVERYBODY];
}

/** A list of words, matched against one identity. */
export class IdentityMatcher {
  readonly #words: ReadonlySet<string>;
  readonly #attributes: readonly string[];
  readonly #scope: NameScope;

  constructor(words: readonly string[], scope: NameScope) {
    this.#words = new Set(words);
    this.#attributes = words.filter((word) => word.startsWith("#") && word !== EVERYBODY)
      .map((word) => word.slice(1));
    this.#scope = scope;
  }

  /** Tells whether one of the words means `identity`. */
  matches(identity: EgressIdentity): boolean {
    if (identity.kind === "relay") return false;
    return wordsFor(identity, this.#scope).some((word) => this.#words.has(word)) ||
      this.#attributes.some((attribute) => identity.attributes.has(attribute));
  }
}
