/**
 * The allocator as plainly as it can be written: it searches lists, and says what must come out. Where any free address is
 * right it says only that.
 */

import assert from "node:assert/strict";
import fc from "fast-check";
import { formatIp, type IpAddress, parseIp, parsePrefix } from "../../src/base/ip.ts";
import { Ipam, type Lease } from "../../src/core/ipam.ts";

/** Time after which the model's full pools take from the absent. */
export const LEASE_TIME = 10;

/** Pools so small that they are full all the time: 5 and 4 clients. */
const POOLS = {
  4: { prefix: parsePrefix("10.0.0.0/29")!, clients: range(2, 6).map((i) => `10.0.0.${i}`) },
  6: { prefix: parsePrefix("fd00::8/125")!, clients: range(10, 15).map((i) => `fd00::${i.toString(16)}`) },
} as const;

const IDENTITIES = range(1, 8).map((i) => `spiffe://t/agent/a${i}`);

type Version = 4 | 6;
type Reserved = Map<string, string[]>;

interface Known {
  identity: string;
  4: string | null;
  6: string | null;
  since: number;
  lastSeen: number;
  order: number;
}

/** What the model remembers. */
export interface Model {
  readonly versions: Version[];
  now: number;
  order: number;
  known: Known[];
  holds: Map<string, number>;
  reserved: Reserved;
}

interface System {
  ipam: Ipam;
}

/** One step of a run. */
export type Step = fc.Command<Model, System>;

/** A fresh model and the real thing beside it. */
export function setup(versions: Version[]): { model: Model; real: System } {
  return {
    model: { versions, now: 1_000, order: 0, known: [], holds: new Map(), reserved: new Map() },
    real: { ipam: new Ipam(options(versions, new Map())) },
  };
}

/** Any sequence of steps. */
export function anySteps(versions: Version[]): fc.Arbitrary<Iterable<Step>> {
  const identity = fc.constantFrom(...IDENTITIES);
  const address = fc.constantFrom(...versions.flatMap((version) => POOLS[version].clients.slice(0, 3)));
  const reservations = fc.uniqueArray(
    fc.tuple(identity, fc.uniqueArray(address, { minLength: 1, maxLength: 2 })),
    { selector: ([name]) => name, maxLength: 3 },
  ).map((entries) => new Map(entries));
  return fc.commands<Model, System>([
    identity.map(allocate),
    identity.map(allocate),
    identity.map(allocate),
    identity.map(hold),
    identity.map(unhold),
    identity.map(unhold),
    identity.map(release),
    fc.integer({ min: 0, max: LEASE_TIME + 2 }).map(wait),
    reservations.map(reserve),
    reservations.map(restart),
  ], { maxCommands: 60, size: "max" });
}

function allocate(identity: string): Step {
  return step(`allocate(${identity})`, (model, { ipam }) => {
    const before = find(model, identity);
    const wanted = new Map<Version, string[]>();
    const missing: Version[] = [];
    for (const version of model.versions) {
      const own = ownReservations(model, { identity, version });
      const current = before?.[version] ?? null;
      const better = current !== null && own.includes(current)
        ? []
        : own.filter((text) => ownerOf(model, text) === undefined);
      const free = POOLS[version].clients.filter((text) =>
        ownerOf(model, text) === undefined && reservers(model, text).length === 0
      );
      const choices = better.length > 0 ? better.slice(0, 1) : current !== null ? [current] : free;
      if (choices.length === 0) missing.push(version);
      wanted.set(version, choices);
    }
    const victim = missing.length === 0 ? undefined : model.known
      .filter((known) => known.identity !== identity && !model.holds.has(known.identity))
      .filter((known) => !model.reserved.has(known.identity) && model.now - known.lastSeen > LEASE_TIME)
      .filter((known) => missing.every((version) => known[version] !== null))
      .sort((a, b) => a.order - b.order)[0];
    const result = ipam.allocate(identity, model.now);
    if (missing.length > 0 && victim === undefined) {
      assert.deepEqual(result, { ok: false, reason: "exhausted" });
      return;
    }
    assert.ok(result.ok);
    assert.equal(result.reclaimed, victim?.identity);
    for (const version of missing) wanted.set(version, [victim![version]!]);
    const got = { 4: text(result.lease.ipv4), 6: text(result.lease.ipv6) };
    for (const version of model.versions) {
      assert.ok(wanted.get(version)!.includes(got[version]!), `${got[version]} of ${wanted.get(version)}`);
    }
    if (victim !== undefined) drop(model, victim.identity);
    drop(model, identity);
    const known = { identity, ...got, since: before?.since ?? model.now, lastSeen: model.now, order: 0 };
    known.order = ++model.order;
    model.known.push(known);
  });
}

function hold(identity: string): Step {
  return step(`hold(${identity})`, (model, { ipam }) => {
    ipam.hold(identity);
    model.holds.set(identity, (model.holds.get(identity) ?? 0) + 1);
  });
}

function unhold(identity: string): Step {
  return step(`unhold(${identity})`, (model, { ipam }) => {
    ipam.unhold(identity, model.now);
    const holds = model.holds.get(identity) ?? 0;
    if (holds > 1) model.holds.set(identity, holds - 1);
    else model.holds.delete(identity);
    const known = find(model, identity);
    if (holds !== 1 || known === undefined) return;
    known.lastSeen = model.now;
    known.order = ++model.order;
  });
}

function release(identity: string): Step {
  return step(`release(${identity})`, (model, { ipam }) => {
    assert.equal(ipam.release(identity), find(model, identity) !== undefined);
    drop(model, identity);
  });
}

function wait(time: number): Step {
  return step(`wait(${time})`, (model) => void (model.now += time));
}

function reserve(reserved: Reserved): Step {
  return step(`reserve(${show(reserved)})`, (model, { ipam }) => {
    model.reserved = reserved;
    const intruders = model.known.filter((known) =>
      texts(known).some((text) =>
        reservers(model, text).length > 0 && !reservers(model, text).includes(known.identity)
      )
    );
    for (const { identity } of intruders) drop(model, identity);
    // Whoever is released makes room for those who share the reservation, so one at a time.
    const astray: string[] = [];
    const returned = ipam.setReservations(parseReserved(reserved));
    for (const identity of returned.slice(intruders.length)) {
      const known = find(model, identity);
      assert.ok(known !== undefined && isAstray(model, known), `${identity} may stay`);
      drop(model, identity);
      astray.push(identity);
    }
    assert.ok(
      !model.known.some((known) => isAstray(model, known) && !sharesWith(model, { known, others: astray })),
    );
    assert.deepEqual(
      returned.slice(0, intruders.length).sort(),
      intruders.map(({ identity }) => identity).sort(),
    );
  });
}

/** The relay ends and starts with other reservations, from what it had stored. */
function restart(reserved: Reserved): Step {
  return step(`restart(${show(reserved)})`, (model, real) => {
    const stored = [...real.ipam.leases()];
    real.ipam = new Ipam(options(model.versions, reserved));
    model.reserved = reserved;
    model.holds.clear();
    const lost = real.ipam.restore(stored);
    const kept: Known[] = [];
    const gone: string[] = [];
    for (const known of model.known) {
      for (const version of model.versions) {
        const address = known[version];
        if (address === null) continue;
        const holders = reservers(model, address);
        if (holders.length > 0 && !holders.includes(known.identity)) known[version] = null;
      }
      if (texts(known).length === 0) gone.push(known.identity);
      else kept.push(known);
    }
    assert.deepEqual(lost.map(({ identity }) => identity).sort(), gone.sort());
    // Who was seen at the same moment has no order of their own: the model takes that of the real one.
    const order = [...real.ipam.leases()].map(({ identity }) => identity);
    kept.sort((a, b) => a.lastSeen - b.lastSeen || order.indexOf(b.identity) - order.indexOf(a.identity));
    for (const known of kept) known.order = ++model.order;
    model.known = kept;
  });
}

function step(name: string, run: (model: Model, real: System) => void): Step {
  return {
    check: () => true,
    run: (model, real) => {
      run(model, real);
      assertAgreement(model, real);
    },
    toString: () => name,
  };
}

function assertAgreement(model: Model, { ipam }: System): void {
  const simplify = (lease: Lease) => [
    lease.identity,
    text(lease.ipv4),
    text(lease.ipv6),
    lease.since,
    lease.lastSeen,
  ];
  assert.deepEqual(
    [...ipam.leases()].map(simplify).sort(),
    model.known.map((known) => [known.identity, known[4], known[6], known.since, known.lastSeen]).sort(),
  );
  for (const identity of IDENTITIES) {
    assert.equal(ipam.leaseOf(identity)?.lastSeen, find(model, identity)?.lastSeen);
  }
  const all = model.known.flatMap(texts);
  assert.equal(new Set(all).size, all.length, "an address has two owners");
  assert.deepEqual(
    ipam.stats(),
    model.versions.map((version) => {
      const having = model.known.filter((known) => known[version] !== null);
      return {
        version,
        size: POOLS[version].clients.length,
        leased: having.length,
        held: having.filter(({ identity }) => model.holds.has(identity)).length,
        reserved: POOLS[version].clients.filter((address) => reservers(model, address).length > 0).length,
      };
    }),
  );
}

function isAstray(model: Model, known: Known): boolean {
  return model.versions.some((version) => {
    const own = ownReservations(model, { identity: known.identity, version });
    const current = known[version];
    return !(current !== null && own.includes(current)) &&
      own.some((address) => ownerOf(model, address) === undefined);
  });
}

/** Whether what `known` could move to was freed only by the release of others. */
function sharesWith(
  model: Model,
  { known, others }: { readonly known: Known; readonly others: readonly string[] },
): boolean {
  return others.some((other) => other !== known.identity && model.reserved.has(other));
}

function ownReservations(
  model: Model,
  { identity, version }: { readonly identity: string; readonly version: Version },
): string[] {
  return (model.reserved.get(identity) ?? []).filter((address) => address.includes(":") === (version === 6));
}

function reservers(model: Model, address: string): string[] {
  return [...model.reserved].filter(([, addresses]) => addresses.includes(address)).map(([name]) => name);
}

function ownerOf(model: Model, address: string): string | undefined {
  return model.known.find((known) => texts(known).includes(address))?.identity;
}

function find(model: Model, identity: string): Known | undefined {
  return model.known.find((known) => known.identity === identity);
}

function drop(model: Model, identity: string): void {
  model.known = model.known.filter((known) => known.identity !== identity);
}

function texts(known: Known): string[] {
  return [known[4], known[6]].filter((address) => address !== null);
}

function text(address: IpAddress | null): string | null {
  return address === null ? null : formatIp(address);
}

function options(versions: readonly Version[], reserved: Reserved) {
  return {
    ipv4: versions.includes(4) ? POOLS[4].prefix : null,
    ipv6: versions.includes(6) ? POOLS[6].prefix : null,
    reservations: parseReserved(reserved),
    leaseTime: LEASE_TIME,
  };
}

function parseReserved(reserved: Reserved): Map<string, IpAddress[]> {
  return new Map([...reserved].map(([name, addresses]) => [name, addresses.map((each) => parseIp(each)!)]));
}

function show(reserved: Reserved): string {
  return JSON.stringify(Object.fromEntries(reserved));
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
