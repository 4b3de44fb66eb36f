/**
 * The flows of one client: a hash table by key, and lists by idle time. Each list is in the order of last use, so
 * that what has been idle longest is always at hand. Bounded; a full table gives up the flow that matters least.
 */

import type { EgressPacket, Flow } from "./flow.ts";

/**
 * Lists of flows of equal idle time. `OPENING` is TCP without an answer yet, `CLOSING` TCP after a reset or both FINs.
 */
export const IDLE_CLASS = {
  DENIED: 0,
  CLOSING: 1,
  OPENING: 2,
  ICMP: 3,
  UDP: 4,
  OTHER: 5,
  TCP: 6,
} as const;

/** Milliseconds without a packet after which a flow of each class is forgotten; TCP's as RFC 5382 §5 asks of NATs. */
export const IDLE_TIMES: readonly number[] = [30_000, 10_000, 240_000, 30_000, 180_000, 180_000, 7_200_000];

/** A flow's place in its list is renewed at most this often, in milliseconds; it lives that much longer. */
const TOUCH_INTERVAL = 1_000;

const MIN_BUCKETS = 16;
const CLASSES = IDLE_TIMES.length;

/** Flows by key and by last use. */
export class FlowTable {
  #buckets: (Flow | undefined)[] = newBuckets(MIN_BUCKETS);
  #mask = MIN_BUCKETS - 1;
  #size = 0;
  readonly #oldest: (Flow | undefined)[] = newBuckets(CLASSES);
  readonly #newest: (Flow | undefined)[] = newBuckets(CLASSES);
  readonly #seed: number;
  readonly #multiplier: number;

  /** The seed must be unknown to peers, who could otherwise choose keys that all fall into one bucket. */
  constructor(seed: number) {
    this.#seed = mix(seed ^ 0x9e3779b9, 0x2c1b3c6d);
    // Odd, so that multiplying loses nothing.
    this.#multiplier = mix(this.#seed, 0x297a2d39) | 1;
  }

  get size(): number {
    return this.#size;
  }

  /** All flows. */
  *flows(): Iterable<Flow> {
    for (const oldest of this.#oldest) {
      for (let flow = oldest; flow !== undefined; flow = flow.newer) yield flow;
    }
  }

  /** The flow of a packet that the client sent. */
  findOutbound(packet: EgressPacket, meta: number, ports: number): Flow | undefined {
    const dst3 = packet.dst3 | 0;
    const src3 = packet.src3 | 0;
    if (packet.version === 4) {
      let flow = this.#buckets[this.#hash4(meta, ports, dst3) & this.#mask];
      while (flow !== undefined) {
        if (flow.ports === ports && flow.dst3 === dst3 && flow.meta === meta && flow.src3 === src3) {
          return flow;
        }
        flow = flow.next;
      }
      return undefined;
    }
    const dst0 = packet.dst0 | 0;
    const dst1 = packet.dst1 | 0;
    const dst2 = packet.dst2 | 0;
    let flow = this.#buckets[this.#hash6(meta, ports, dst0, dst1, dst2, dst3) & this.#mask];
    while (flow !== undefined) {
      if (
        flow.ports === ports && flow.dst3 === dst3 && flow.meta === meta && flow.src3 === src3 &&
        flow.dst0 === dst0 && flow.dst1 === dst1 && flow.dst2 === dst2 && flow.src0 === (packet.src0 | 0) &&
        flow.src1 === (packet.src1 | 0) && flow.src2 === (packet.src2 | 0)
      ) return flow;
      flow = flow.next;
    }
    return undefined;
  }

  /** The flow that a packet to the client would belong to; `ports` are those of the flow, not of the packet. */
  findInbound(packet: EgressPacket, meta: number, ports: number): Flow | undefined {
    const dst3 = packet.src3 | 0;
    const src3 = packet.dst3 | 0;
    if (packet.version === 4) {
      let flow = this.#buckets[this.#hash4(meta, ports, dst3) & this.#mask];
      while (flow !== undefined) {
        if (flow.ports === ports && flow.dst3 === dst3 && flow.meta === meta && flow.src3 === src3) {
          return flow;
        }
        flow = flow.next;
      }
      return undefined;
    }
    const dst0 = packet.src0 | 0;
    const dst1 = packet.src1 | 0;
    const dst2 = packet.src2 | 0;
    let flow = this.#buckets[this.#hash6(meta, ports, dst0, dst1, dst2, dst3) & this.#mask];
    while (flow !== undefined) {
      if (
        flow.ports === ports && flow.dst3 === dst3 && flow.meta === meta && flow.src3 === src3 &&
        flow.dst0 === dst0 && flow.dst1 === dst1 && flow.dst2 === dst2 && flow.src0 === (packet.dst0 | 0) &&
        flow.src1 === (packet.dst1 | 0) && flow.src2 === (packet.dst2 | 0)
      ) return flow;
      flow = flow.next;
    }
    return undefined;
  }

  /** Adds a flow that is in no table, as just used. */
  add(flow: Flow, idleClass: number): void {
    const { meta, ports, dst0, dst1, dst2, dst3 } = flow;
    flow.hash = flow.version === 4
      ? this.#hash4(meta, ports, dst3)
      : this.#hash6(meta, ports, dst0, dst1, dst2, dst3);
    if (this.#size > this.#mask) this.#grow();
    const bucket = flow.hash & this.#mask;
    flow.next = this.#buckets[bucket];
    this.#buckets[bucket] = flow;
    this.#size++;
    flow.idleClass = idleClass;
    this.#append(flow);
  }

  /** Takes a flow of this table out. */
  remove(flow: Flow): void {
    const bucket = flow.hash & this.#mask;
    let other = this.#buckets[bucket];
    if (other === flow) this.#buckets[bucket] = flow.next;
    else {
      while (other !== undefined && other.next !== flow) other = other.next;
      if (other !== undefined) other.next = flow.next;
    }
    flow.next = undefined;
    this.#unlink(flow);
    flow.idleClass = -1;
    this.#size--;
  }

  /** Notes that a flow was used, where its note is not fresh enough. */
  touch(flow: Flow, now: number): void {
    if (now - flow.seen < TOUCH_INTERVAL) return;
    this.#unlink(flow);
    flow.seen = now;
    this.#append(flow);
  }

  /** Gives a flow another idle time, counted from now. */
  reclass(flow: Flow, idleClass: number, now: number): void {
    if (flow.idleClass === idleClass) return;
    this.#unlink(flow);
    flow.idleClass = idleClass;
    flow.seen = now;
    this.#append(flow);
  }

  /** A flow whose idle time is over, or undefined. */
  expired(now: number): Flow | undefined {
    for (let idleClass = 0; idleClass < CLASSES; idleClass++) {
      const flow = this.#oldest[idleClass];
      if (flow !== undefined && now - flow.seen >= IDLE_TIMES[idleClass]! + TOUCH_INTERVAL) return flow;
    }
    return undefined;
  }

  /** The denied flow that has been idle longest. */
  oldestDenied(): Flow | undefined {
    return this.#oldest[IDLE_CLASS.DENIED];
  }

  /** The flow to give up for another allowed one: denied ones first, then closing ones, then what was idle longest. */
  leastNeeded(): Flow | undefined {
    const gone = this.#oldest[IDLE_CLASS.DENIED] ?? this.#oldest[IDLE_CLASS.CLOSING];
    if (gone !== undefined) return gone;
    let least: Flow | undefined;
    for (let idleClass = IDLE_CLASS.OPENING; idleClass < CLASSES; idleClass++) {
      const flow = this.#oldest[idleClass];
      if (flow !== undefined && (least === undefined || flow.seen < least.seen)) least = flow;
    }
    return least;
  }

  #append(flow: Flow): void {
    const last = this.#newest[flow.idleClass];
    flow.older = last;
    flow.newer = undefined;
    if (last === undefined) this.#oldest[flow.idleClass] = flow;
    else last.newer = flow;
    this.#newest[flow.idleClass] = flow;
  }

  #unlink(flow: Flow): void {
    const { older, newer } = flow;
    if (older === undefined) this.#oldest[flow.idleClass] = newer;
    else older.newer = newer;
    if (newer === undefined) this.#newest[flow.idleClass] = older;
    else newer.older = older;
    flow.older = undefined;
    flow.newer = undefined;
  }

  #grow(): void {
    const old = this.#buckets;
    this.#buckets = newBuckets(old.length * 2);
    this.#mask = this.#buckets.length - 1;
    for (let flow of old) {
      while (flow !== undefined) {
        const next: Flow | undefined = flow.next;
        const bucket = flow.hash & this.#mask;
        flow.next = this.#buckets[bucket];
        this.#buckets[bucket] = flow;
        flow = next;
      }
    }
  }

  #hash4(meta: number, ports: number, dst3: number): number {
    const k = this.#multiplier;
    // Once more at the end: else the upper bits of the last word would choose no bucket, for any seed.
    return mix(mix(mix(mix(this.#seed ^ meta, k) ^ ports, k) ^ dst3, k), k);
  }

  #hash6(meta: number, ports: number, dst0: number, dst1: number, dst2: number, dst3: number): number {
    const k = this.#multiplier;
    return mix(mix(mix(mix(this.#hash4(meta, ports, dst3) ^ dst0, k) ^ dst1, k) ^ dst2, k), k);
  }
}

/** Spreads each bit over the word; `k` is odd. */
function mix(value: number, k: number): number {
  const product = Math.imul(value, k | 1);
  return product ^ (product >>> 15);
}

function newBuckets(count: number): (Flow | undefined)[] {
  return new Array<Flow | undefined>(count).fill(undefined);
}
