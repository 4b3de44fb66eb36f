/**
 * Cuts the rights of many identities out of a policy, and again after each change, for little: identities that the same
 * policies select have the same rights, peers of services that the same policies select are one list, and what a change
 * does not touch stays the same object.
 */

import { type RightsView, toViewBind, toViewDial, type ViewBind, type ViewDial } from "./rights_view.ts";
import type { PolicySet } from "./role_matcher.ts";
import type { PolicyRules, PolicySnapshot, SelectedBy } from "./snapshot.ts";

/** What the rights of identities depend on besides the policy. */
export interface CompilerUpdate {
  /** SPIFFE IDs that may appear as peers. */
  readonly known: Iterable<string>;
  /** Those of them, and those no longer, whose entries differ from the last update; `all` when that is not known. */
  readonly changed: ReadonlySet<string> | "all";
}

/** Identities looked at in one step. */
const STEP = 500;

/** The rights of all identities of one network. */
export class ViewCompiler {
  #policy: PolicySnapshot | undefined;
  #rules: PolicyRules | undefined;
  /** Identities by the policies that select them. */
  #classes = new Map<string, IdentityClass>();
  /** The class of each known identity that may hold rights. */
  #classOf = new Map<string, IdentityClass>();
  #binders = new PeerLists("bind");
  #diallers = new PeerLists("dial");

  /** Takes the policy in force from now on. */
  update(policy: PolicySnapshot, update: CompilerUpdate): void {
    for (const _step of this.updateInSteps(policy, update));
  }

  /** As {@linkcode update}, in steps between which the caller may do other work; until the last one nothing has changed. */
  *updateInSteps(policy: PolicySnapshot, { known, changed }: CompilerUpdate): Generator<void, void, void> {
    if (changed === "all" || policy.rules !== this.#rules) {
      yield* this.#rebuild(policy, known);
      return;
    }
    this.#policy = policy;
    const ids = known instanceof Set ? known as ReadonlySet<string> : new Set(known);
    const touched = { dial: emptySet(policy.rules.dial.size), bind: emptySet(policy.rules.bind.size) };
    for (const id of changed) {
      const before = this.#classOf.get(id);
      const selectedBy = ids.has(id) ? policy.rightsOf(id).selectedBy : undefined;
      const after = selectedBy && this.#class(selectedBy);
      if (before === after) continue;
      if (before !== undefined) this.#leave(id, { from: before, touched });
      if (after !== undefined) this.#enter(id, { into: after, touched });
    }
    this.#binders.invalidate(touched.bind);
    this.#diallers.invalidate(touched.dial);
    for (const kept of this.#classes.values()) {
      if (intersects(kept.bindersMask, touched.bind) || intersects(kept.diallersMask, touched.dial)) {
        kept.rights = undefined;
      }
    }
  }

  /** What one identity may do: the same object as before while nothing of it changed. */
  rightsOf(id: string): RightsView {
    const policy = this.#policy;
    if (policy === undefined) return NO_RIGHTS;
    let found = this.#classOf.get(id);
    if (found === undefined) {
      const { selectedBy } = policy.rightsOf(id);
      if (selectedBy === undefined) return NO_RIGHTS;
      // Not known to others, but it may ask: it takes its rights from the class it would be in.
      found = this.#classes.get(keyOf(selectedBy)) ?? newClass(selectedBy);
    }
    return found.rights ??= this.#compile(found, policy.rules);
  }

  *#rebuild(policy: PolicySnapshot, known: Iterable<string>): Generator<void, void, void> {
    const selected: { readonly id: string; readonly by: SelectedBy }[] = [];
    let step = 0;
    for (const id of known) {
      const by = policy.rightsOf(id).selectedBy;
      if (by !== undefined) selected.push({ id, by });
      if (++step % STEP === 0) yield;
    }
    this.#policy = policy;
    this.#rules = policy.rules;
    this.#classes = new Map();
    this.#classOf = new Map();
    this.#binders = new PeerLists("bind");
    this.#diallers = new PeerLists("dial");
    for (const { id, by } of selected) this.#add(id, this.#class(by));
  }

  #class(selectedBy: SelectedBy): IdentityClass {
    const key = keyOf(selectedBy);
    const found = this.#classes.get(key) ?? newClass(selectedBy);
    this.#classes.set(key, found);
    return found;
  }

  #add(id: string, into: IdentityClass): void {
    if (into.members.size === 0) {
      this.#binders.add(into);
      this.#diallers.add(into);
    }
    into.members.add(id);
    this.#classOf.set(id, into);
  }

  #enter(id: string, { into, touched }: { into: IdentityClass; touched: SelectedBy }): void {
    this.#add(id, into);
    addAll(touched.dial, into.dial);
    addAll(touched.bind, into.bind);
  }

  #leave(id: string, { from, touched }: { from: IdentityClass; touched: SelectedBy }): void {
    from.members.delete(id);
    this.#classOf.delete(id);
    addAll(touched.dial, from.dial);
    addAll(touched.bind, from.bind);
    if (from.members.size > 0) return;
    this.#classes.delete(from.key);
    this.#binders.remove(from);
    this.#diallers.remove(from);
  }

  #compile(subject: IdentityClass, rules: PolicyRules): RightsView {
    const dial: ViewDial[] = [];
    const bind: ViewBind[] = [];
    const bindersMask = emptySet(rules.bind.size);
    const diallersMask = emptySet(rules.dial.size);
    for (const service of rules.serviceNames) {
      const dialSet = rules.dial.selecting(service)!;
      const bindSet = rules.bind.selecting(service)!;
      if (intersects(subject.dial, dialSet)) {
        dial.push(toViewDial(service, { rules, bind: this.#binders.of(bindSet) }));
        addAll(bindersMask, bindSet);
      }
      if (intersects(subject.bind, bindSet)) {
        bind.push(toViewBind(service, { rules, dial: this.#diallers.of(dialSet) }));
        addAll(diallersMask, dialSet);
      }
    }
    subject.bindersMask = bindersMask;
    subject.diallersMask = diallersMask;
    return { dial, bind };
  }
}

const NO_RIGHTS: RightsView = { dial: [], bind: [] };

/** Who holds one right on services, by the policies that select the service. */
class PeerLists {
  readonly #right: keyof SelectedBy;
  /** Identity classes by the index of a policy that selects them. */
  readonly #byPolicy = new Map<number, Set<IdentityClass>>();
  readonly #lists = new Map<string, { readonly policies: PolicySet; readonly ids: readonly string[] }>();
  /** The key of each service's policy set, which is the same object for as long as the rules are. */
  readonly #keys = new WeakMap<PolicySet, string>();

  constructor(right: keyof SelectedBy) {
    this.#right = right;
  }

  add(added: IdentityClass): void {
    for (const policy of indexesOf(added[this.#right])) {
      const classes = this.#byPolicy.get(policy) ?? new Set();
      this.#byPolicy.set(policy, classes.add(added));
    }
  }

  remove(removed: IdentityClass): void {
    for (const policy of indexesOf(removed[this.#right])) this.#byPolicy.get(policy)?.delete(removed);
  }

  /** Forgets the lists that some of these policies feed. */
  invalidate(policies: PolicySet): void {
    for (const [key, list] of this.#lists) {
      if (intersects(list.policies, policies)) this.#lists.delete(key);
    }
  }

  /** Everybody whom one of these policies selects, sorted. */
  of(policies: PolicySet): readonly string[] {
    const key = this.#keys.get(policies) ?? policies.join();
    this.#keys.set(policies, key);
    const found = this.#lists.get(key);
    if (found !== undefined) return found.ids;
    const classes = new Set<IdentityClass>();
    for (const policy of indexesOf(policies)) {
      for (const selected of this.#byPolicy.get(policy) ?? []) classes.add(selected);
    }
    const ids: string[] = [];
    for (const { members } of classes) for (const id of members) ids.push(id);
    ids.sort();
    this.#lists.set(key, { policies, ids });
    return ids;
  }
}

/** Identities that the same policies select. */
interface IdentityClass extends SelectedBy {
  readonly key: string;
  readonly members: Set<string>;
  rights: RightsView | undefined;
  /** Bind policies of the services that the class may dial: whom they select is in its rights. */
  bindersMask: PolicySet;
  /** Dial policies of the services that the class may bind. */
  diallersMask: PolicySet;
}

const NO_POLICIES: PolicySet = new Uint32Array(0);

function newClass({ dial, bind }: SelectedBy): IdentityClass {
  const masks = { bindersMask: NO_POLICIES, diallersMask: NO_POLICIES };
  return { key: keyOf({ dial, bind }), dial, bind, members: new Set(), rights: undefined, ...masks };
}

function keyOf({ dial, bind }: SelectedBy): string {
  return `${dial.join()}/${bind.join()}`;
}

function emptySet(policies: number): PolicySet {
  return new Uint32Array(Math.ceil(policies / 32));
}

function intersects(a: PolicySet, b: PolicySet): boolean {
  for (let word = 0; word < a.length; word++) {
    if ((a[word]! & (b[word] ?? 0)) !== 0) return true;
  }
  return false;
}

function addAll(target: PolicySet, source: PolicySet): void {
  for (let word = 0; word < target.length; word++) target[word] = target[word]! | source[word]!;
}

function* indexesOf(set: PolicySet): Iterable<number> {
  for (let word = 0; word < set.length; word++) {
    for (let rest = set[word]! >>> 0; rest !== 0; rest = (rest & (rest - 1)) >>> 0) {
      yield word * 32 + 31 - Math.clz32(rest & -rest);
    }
  }
}
