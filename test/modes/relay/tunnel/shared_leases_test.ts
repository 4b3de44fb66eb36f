/** Addresses that relays share: a controller that comes and goes, releases that cross answers, caches that are old. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { formatIp, parsePrefix } from "../../../../src/base/ip.ts";
import { SILENT_LOGGER } from "../../../../src/base/log.ts";
import { ControllerError, type LinkAllocation } from "../../../../src/control/sync/link.ts";
import { Ipam } from "../../../../src/core/ipam.ts";
import type { Grant } from "../../../../src/modes/relay/tunnel/lease_authority.ts";
import { SharedLeases } from "../../../../src/modes/relay/tunnel/shared_leases.ts";
import { readStoredLeases } from "../../../../src/store/stored_leases.ts";

const POOLS = ["10.100.0.0/29", "fd00::/64"].map((text) => parsePrefix(text)!);
const [ALICE, BOB, CAROL] = ["alice", "bob", "carol"].map((name) => `spiffe://t/agent/${name}`) as [
  string,
  string,
  string,
];

/** A controller with one pool; it can go away, hold an answer back, and forget whom it knows. */
class Controller {
  readonly ipam = new Ipam({ ipv4: POOLS[0]!, ipv6: POOLS[1]!, reservations: new Map(), leaseTime: 0 });
  readonly touched: string[] = [];
  readonly unknown = new Set<string>();
  asked = 0;
  isAway = false;
  /** Answers wait for it. */
  gate: Promise<void> = Promise.resolve();
  #now = 1;

  async allocate(identity: string): Promise<LinkAllocation> {
    this.asked++;
    const result = this.#decide(identity);
    await this.gate;
    return result;
  }

  touch(identities: readonly string[]): Promise<void> {
    if (this.isAway) return Promise.reject(away());
    this.touched.push(...identities);
    return Promise.resolve();
  }

  #decide(identity: string): LinkAllocation {
    if (this.isAway) throw away();
    if (this.unknown.has(identity)) return { ok: false, fault: "unknown" };
    const allocation = this.ipam.allocate(identity, this.#now++);
    if (!allocation.ok) return { ok: false, fault: allocation.reason };
    const { ipv4, ipv6, since, lastSeen } = allocation.lease;
    return {
      ok: true,
      isNew: true,
      reclaimed: null,
      allocation: {
        clientId: identity,
        virtualIp: ipv4 === null ? null : formatIp(ipv4),
        virtualIp6: ipv6 === null ? null : formatIp(ipv6),
        allocatedAt: since,
        lastSeenAt: lastSeen,
        metadata: {},
      },
    };
  }
}

Deno.test("a known client gets its address while the controller is away, a new one hears why not", async () => {
  const { controller, leases } = await open();
  const before = await acquire(leases, ALICE);
  before.end();
  controller.isAway = true;
  assert.equal(addressOf(await leases.acquire(ALICE)), addressOf(before));
  assert.deepEqual(await leases.acquire(BOB), { ok: false, reason: "unavailable" });
  await leases.close();
});

Deno.test("a controller that hangs keeps no known client waiting, and its late answer counts", async () => {
  const { controller, leases, released } = await open({ patience: 20 });
  const first = await acquire(leases, ALICE);
  first.end();
  const { promise, resolve } = Promise.withResolvers<void>();
  controller.gate = promise;
  controller.ipam.release(ALICE);
  controller.ipam.allocate(BOB, 9);
  const second = await acquire(leases, ALICE);
  assert.equal(addressOf(second), addressOf(first));
  resolve();
  await leases.confirm();
  assert.deepEqual(released, [ALICE]);
  assert.equal(leases.hasLeased(ALICE, addressesOf(second)), false);
  await leases.close();
});

Deno.test("what was remembered lasts over a restart, also while the controller is away", async () => {
  const { path, controller, leases } = await open();
  const before = await acquire(leases, ALICE);
  await leases.close();
  const again = await open({ path, controller });
  controller.isAway = true;
  assert.equal(addressOf(await again.leases.acquire(ALICE)), addressOf(before));
  await again.leases.close();
});

Deno.test("a released identity loses its connections and its remembered address", async () => {
  const { path, controller, leases, released } = await open();
  const grant = await acquire(leases, ALICE);
  leases.released(ALICE);
  assert.deepEqual(released, [ALICE]);
  assert.equal(leases.hasLeased(ALICE, addressesOf(grant)), false);
  grant.end();
  controller.isAway = true;
  assert.deepEqual(await leases.acquire(ALICE), { ok: false, reason: "unavailable" });
  await leases.close();
  assert.deepEqual(await readStoredLeases(path), []);
});

Deno.test("an answer that a release overtook is not believed: the controller is asked again", async () => {
  const { controller, leases } = await open();
  const { promise, resolve } = Promise.withResolvers<void>();
  controller.gate = promise;
  const waiting = leases.acquire(ALICE);
  controller.ipam.release(ALICE);
  controller.ipam.allocate(BOB, 9);
  leases.released(ALICE);
  resolve();
  const grant = await waiting;
  assert.equal(controller.asked, 2);
  assert.equal(addressOf(grant), formatIp(controller.ipam.leaseOf(ALICE)!.ipv4!));
  await leases.close();
});

Deno.test("an address that is another's now ends the connections of the one who had it", async () => {
  const { controller, leases, released } = await open();
  const alice = await acquire(leases, ALICE);
  controller.isAway = true;
  await leases.confirm();
  controller.isAway = false;
  // Meanwhile her address went to Bob, who comes to this relay before anybody asked about hers.
  controller.ipam.release(ALICE);
  const bob = await acquire(leases, BOB);
  assert.equal(addressOf(bob), addressOf(alice));
  assert.deepEqual(released, [ALICE]);
  assert.equal(leases.hasLeased(ALICE, addressesOf(alice)), false);
  assert.equal(leases.hasLeased(BOB, addressesOf(bob)), true);
  await leases.close();
});

Deno.test("after an absence of the controller everybody here is asked about again", async () => {
  const { controller, leases, released } = await open();
  await acquire(leases, ALICE);
  await acquire(leases, BOB);
  controller.isAway = true;
  await leases.confirm();
  controller.isAway = false;
  controller.ipam.release(ALICE);
  controller.ipam.release(BOB);
  controller.ipam.allocate(CAROL, 9);
  controller.unknown.add(BOB);
  await leases.confirm();
  assert.deepEqual(released.toSorted(), [ALICE, BOB]);
  await leases.close();
});

Deno.test("the controller hears of those who are here, as long as they are", async () => {
  const { controller, leases } = await open();
  const alice = await acquire(leases, ALICE);
  const twice = await acquire(leases, ALICE);
  (await acquire(leases, BOB)).end();
  await leases.confirm();
  alice.end();
  await leases.confirm();
  twice.end();
  await leases.confirm();
  assert.deepEqual(controller.touched, [ALICE, ALICE]);
  await leases.close();
});

Deno.test("an exhausted pool and an unknown identity are no absence: nothing remembered helps", async () => {
  const { controller, leases } = await open();
  (await acquire(leases, ALICE)).end();
  controller.unknown.add(ALICE);
  assert.deepEqual(await leases.acquire(ALICE), { ok: false, reason: "unknown" });
  for (let client = 0; client < 5; client++) controller.ipam.hold(`spiffe://t/agent/c${client}`);
  for (let client = 0; client < 5; client++) controller.ipam.allocate(`spiffe://t/agent/c${client}`, 9);
  assert.deepEqual(await leases.acquire(BOB), { ok: false, reason: "exhausted" });
  controller.isAway = true;
  assert.deepEqual(await leases.acquire(ALICE), { ok: false, reason: "unavailable" });
  await leases.close();
});

Deno.test("an address outside the pools is refused, and forgotten at the next start", async () => {
  const { path, controller, leases } = await open();
  await acquire(leases, ALICE);
  await leases.close();
  const elsewhere = [parsePrefix("10.200.0.0/24")!];
  const moved = await SharedLeases.open({ link: controller, path, pools: elsewhere, logger: SILENT_LOGGER });
  assert.deepEqual(await moved.acquire(ALICE), { ok: false, reason: "unavailable" });
  await moved.close();
  assert.deepEqual(await readStoredLeases(path), []);
});

async function open(
  options: { readonly path?: string; readonly controller?: Controller; readonly patience?: number } = {},
) {
  const { patience = 1_000, controller = new Controller() } = options;
  const path = options.path ?? join(await Deno.makeTempDir(), "leases.jsonl");
  const leases = await SharedLeases.open({
    link: controller,
    path,
    pools: POOLS,
    logger: SILENT_LOGGER,
    patience,
    touchInterval: 3_600_000,
  });
  const released: string[] = [];
  leases.watch((identity) => released.push(identity));
  return { path, controller, leases, released };
}

async function acquire(leases: SharedLeases, identity: string): Promise<Grant & { readonly ok: true }> {
  const grant = await leases.acquire(identity);
  assert.ok(grant.ok);
  return grant;
}

function addressesOf({ lease: { ipv4, ipv6 } }: Grant & { readonly ok: true }) {
  return [ipv4!, ipv6!];
}

function addressOf(grant: Grant): string {
  assert.ok(grant.ok);
  return formatIp(grant.lease.ipv4!);
}

function away(): ControllerError {
  return new ControllerError("ERR_CONTROLLER_UNAVAILABLE", "Cannot reach the controller");
}
