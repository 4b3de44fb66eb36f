/**
 * One lease as the allocator keeps it, and the list of those whose identities are away, through the leases themselves:
 * joining, leaving and finding the first cost the same however many there are.
 */

/** A lease by the host indexes of its addresses. */
export interface LeaseFields {
  /** SPIFFE ID. */
  readonly identity: string;
  /** Host index in the IPv4 pool. */
  readonly 4: number | undefined;
  /** Host index in the IPv6 pool. */
  readonly 6: number | undefined;
  /** Milliseconds since the epoch. */
  readonly since: number;
  /** Milliseconds since the epoch. */
  readonly lastSeen: number;
}

/** A lease and its place among the absent. */
export class LeaseEntry implements LeaseFields {
  readonly identity: string;
  readonly 4: number | undefined;
  readonly 6: number | undefined;
  readonly since: number;
  lastSeen: number;
  /** Grows with each change of its state: tells which of two changed last. */
  order = 0;
  /** Whether it is in the list of the absent. */
  isAbsent = false;
  previous: LeaseEntry | undefined = undefined;
  next: LeaseEntry | undefined = undefined;

  constructor(fields: LeaseFields) {
    this.identity = fields.identity;
    this[4] = fields[4];
    this[6] = fields[6];
    this.since = fields.since;
    this.lastSeen = fields.lastSeen;
  }
}

/** Leases whose identities are away, the one away longest first. */
export class AbsentList {
  #first: LeaseEntry | undefined;
  #last: LeaseEntry | undefined;

  /** The one away longest; the others follow by `next`. */
  get first(): LeaseEntry | undefined {
    return this.#first;
  }

  /** Adds one that is not in the list. */
  append(entry: LeaseEntry): void {
    entry.isAbsent = true;
    entry.previous = this.#last;
    entry.next = undefined;
    if (this.#last === undefined) this.#first = entry;
    else this.#last.next = entry;
    this.#last = entry;
  }

  /** Takes one out; harmless when it is not in the list. */
  remove(entry: LeaseEntry): void {
    if (!entry.isAbsent) return;
    entry.isAbsent = false;
    if (entry.previous === undefined) this.#first = entry.next;
    else entry.previous.next = entry.next;
    if (entry.next === undefined) this.#last = entry.previous;
    else entry.next.previous = entry.previous;
    entry.previous = undefined;
    entry.next = undefined;
  }
}
