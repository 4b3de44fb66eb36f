/**
 * Finds what a policy document says of a SPIFFE ID: which names policies may call it by, and its attributes.
 *
 * - `@spiffe://…` and an entry's `id` mean exactly that identity.
 * - `@kind/name` and `@name` mean identities of the network by their certificate's path; `@name` spans agents,
 *   users and connectors. When an entry gives the name an `id`, the name means that `id` alone.
 * - Attributes of all entries that mean an identity add up.
 * - A relay or controller is never a subject: it serves other people's flows and has none of its own.
 * - An identity of a foreign trust domain is a stranger unless an entry or a role spells out its `id`.
 * - Under `declaredOnly` an identity without an entry of its `id` does not exist, and `@name` means no user: their
 *   names come from providers, where many may choose their own, a connector's too.
 */

import type { PolicyIdentity } from "./document.ts";
import type { Entity } from "./role_matcher.ts";

/** A SPIFFE ID in Ginnel's form: trust domain, kind, name. */
const NETWORK_ID =
  /^spiffe:\/\/([a-z0-9._-]{1,255})\/(relay|controller|connector|agent|user)\/([A-Za-z0-9._-]{1,63})$/;

/** Identities one index remembers. */
const MAX_REMEMBERED = 16_384;

/** How an index reads the document. */
export interface IndexOptions {
  readonly trustDomain?: string | undefined;
  readonly declaredOnly?: boolean | undefined;
}

const INDEXES = new WeakMap<readonly PolicyIdentity[], IdentityIndex>();

/** The index of a document's identities: the same one while that list is the very same. */
export function indexIdentities(
  identities: readonly PolicyIdentity[],
  options: IndexOptions = {},
): IdentityIndex {
  const known = INDEXES.get(identities);
  if (known?.isRead(options)) return known;
  const index = new IdentityIndex(identities, options);
  INDEXES.set(identities, index);
  return index;
}

/** Looks identities up by SPIFFE ID. */
export class IdentityIndex {
  readonly #trustDomain: string | undefined;
  readonly #declaredOnly: boolean;
  readonly #attributes = new Map<string, readonly string[]>();
  /** Names that stand for one spelled-out `id`. */
  readonly #aliases = new Map<string, readonly string[]>();
  readonly #taken = new Set<string>();
  readonly #found = new Map<string, Entity>();

  constructor(identities: readonly PolicyIdentity[], options: IndexOptions = {}) {
    this.#trustDomain = options.trustDomain;
    this.#declaredOnly = options.declaredOnly ?? false;
    for (const { name, id, roleAttributes } of identities) {
      const key = id ?? name;
      if (key === undefined) continue;
      const attributes = this.#attributes.get(key);
      this.#attributes.set(
        key,
        attributes === undefined ? roleAttributes : [...attributes, ...roleAttributes],
      );
      if (id === undefined) continue;
      if (name === undefined) continue;
      this.#aliases.set(id, [...this.#aliases.get(id) ?? [], name]);
      this.#taken.add(name);
    }
  }

  /** Whether it reads documents in this way. */
  isRead({ trustDomain, declaredOnly = false }: IndexOptions): boolean {
    return this.#trustDomain === trustDomain && this.#declaredOnly === declaredOnly;
  }

  /** What roles match an identity against, or undefined for one that can hold no right. */
  find(id: string): Entity | undefined {
    const known = this.#found.get(id);
    if (known !== undefined) return known;
    const entity = this.#read(id);
    if (entity === undefined) return undefined;
    // All of a network's identities fit; strangers' many names must not fill the memory.
    if (this.#found.size >= MAX_REMEMBERED) this.#found.clear();
    this.#found.set(id, entity);
    return entity;
  }

  /** Tells whether an entry declares what `@name` would mean. */
  declares(name: string): boolean {
    return this.#attributes.has(name) || this.#taken.has(name);
  }

  #read(id: string): Entity | undefined {
    const isDeclared = this.#attributes.has(id);
    if (this.#declaredOnly && !isDeclared) return undefined;
    const match = NETWORK_ID.exec(id);
    if (match?.[2] === "relay" || match?.[2] === "controller") return undefined;
    const aliases = this.#aliases.get(id);
    const names = aliases === undefined ? [id] : [id, ...aliases];
    const ours = match !== null && (this.#trustDomain === undefined || match[1] === this.#trustDomain);
    if (ours) {
      const path = `${match[2]}/${match[3]}`;
      if (!this.#taken.has(path)) names.push(path);
      const isNamed = !(this.#declaredOnly && match[2] === "user");
      if (isNamed && !this.#taken.has(match[3]!)) names.push(match[3]!);
    }
    const attributes: (readonly string[])[] = [];
    for (const name of names) {
      const found = this.#attributes.get(name);
      if (found !== undefined) attributes.push(found);
    }
    return { names, attributes, inAll: ours || isDeclared };
  }
}
