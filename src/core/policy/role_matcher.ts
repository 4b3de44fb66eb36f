/**
 * One side of many policies compiled for speed: which policies select an entity with these names and attributes.
 * The answer is a bit set, one bit for each policy, so that joining both sides of all policies is a few ANDs.
 */

import type { Semantic } from "./document.ts";

/** A set of policy indexes, 32 to a word. */
export type PolicySet = Uint32Array;

/** One policy's roles for one side. */
export interface RoleList {
  readonly roles: readonly string[];
  readonly semantic: Semantic;
}

/** What roles are matched against. */
export interface Entity {
  /** Everything `@…` may call it. */
  readonly names: readonly string[];
  /** Attributes without `#`, possibly from several places. */
  readonly attributes: readonly (readonly string[])[];
  /** Whether `#all` selects it. */
  readonly inAll: boolean;
}

/** The role that every entity of the network has. */
export const ALL_ROLE = "#all";

/** Tells which of a fixed list of policies select an entity. A malformed or empty role list selects nothing. */
export class RoleMatcher {
  readonly #words: number;
  readonly #all: PolicySet;
  readonly #byName = new Map<string, PolicySet>();
  readonly #byAttribute = new Map<string, PolicySet>();
  /** `AllOf` lists by their first attribute: an entity without that one needs no further look. */
  readonly #conjunctions = new Map<string, Conjunction[]>();

  constructor(lists: readonly RoleList[]) {
    this.#words = Math.ceil(lists.length / 32);
    this.#all = new Uint32Array(this.#words);
    lists.forEach((list, index) => this.#add(list, index));
  }

  /** The policies that select `entity`. */
  match(entity: Entity): PolicySet {
    const selected = entity.inAll ? this.#all.slice() : new Uint32Array(this.#words);
    for (const name of entity.names) addAll(selected, this.#byName.get(name));
    for (const attributes of entity.attributes) {
      for (const attribute of attributes) {
        addAll(selected, this.#byAttribute.get(attribute));
        for (const conjunction of this.#conjunctions.get(attribute) ?? []) {
          if (holdsAll(entity, conjunction)) addIndex(selected, conjunction.index);
        }
      }
    }
    return selected;
  }

  #add(list: RoleList, index: number): void {
    const attributes: string[] = [];
    let all = false;
    for (const role of list.roles) {
      if (role === ALL_ROLE) all = true;
      else if (role.startsWith("#") && role.length > 1) attributes.push(role.slice(1));
      else if (role.startsWith("@") && role.length > 1) {
        addIndex(this.#entry(this.#byName, role.slice(1)), index);
      }
    }
    const [first] = attributes;
    if (list.semantic === "AllOf" && first !== undefined) {
      const sameFirst = this.#conjunctions.get(first) ?? [];
      this.#conjunctions.set(first, [...sameFirst, { index, attributes }]);
      return;
    }
    if (all) addIndex(this.#all, index);
    for (const attribute of attributes) addIndex(this.#entry(this.#byAttribute, attribute), index);
  }

  #entry(map: Map<string, PolicySet>, key: string): PolicySet {
    const found = map.get(key);
    if (found !== undefined) return found;
    const created = new Uint32Array(this.#words);
    map.set(key, created);
    return created;
  }
}

/** The lowest index in both sets, or -1. */
export function firstCommon(a: PolicySet, b: PolicySet): number {
  for (let word = 0; word < a.length; word++) {
    const both = (a[word]! & b[word]!) >>> 0;
    if (both !== 0) return word * 32 + 31 - Math.clz32(both & -both);
  }
  return -1;
}

/** An `AllOf` list: every attribute is needed. `#all` among them asks nothing more: who has attributes is in it. */
interface Conjunction {
  readonly index: number;
  readonly attributes: readonly string[];
}

function holdsAll(entity: Entity, { attributes }: Conjunction): boolean {
  return attributes.every((attribute) => entity.attributes.some((list) => list.includes(attribute)));
}

function addIndex(set: PolicySet, index: number): void {
  set[index >>> 5] = set[index >>> 5]! | (1 << (index & 31));
}

function addAll(target: PolicySet, source: PolicySet | undefined): void {
  if (source === undefined) return;
  for (let word = 0; word < target.length; word++) target[word] = target[word]! | source[word]!;
}
