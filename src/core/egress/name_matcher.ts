/** Which DNS names a list of `fqdn` destinations means. */

/** A list of names and of `*.` wildcards, asked in time that does not depend on its length. */
export class NameMatcher {
  readonly #names = new Set<string>();
  /** What stands behind `*.`. */
  readonly #parents = new Set<string>();

  constructor(patterns: Iterable<string>) {
    for (const pattern of patterns) {
      if (pattern.startsWith("*.")) this.#parents.add(pattern.slice(2));
      else this.#names.add(pattern);
    }
  }

  /** Tells whether one of the patterns means `name` (lower case, no final dot). */
  matches(name: string): boolean {
    if (this.#names.has(name)) return true;
    if (this.#parents.size === 0) return false;
    for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1)) {
      if (dot > 0 && this.#parents.has(name.slice(dot + 1))) return true;
    }
    return false;
  }
}
