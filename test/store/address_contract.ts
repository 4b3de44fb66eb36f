/** What every store does with tunnel addresses. */

import assert from "node:assert/strict";
import type { AllocationOptions, AllocationResult, Store } from "../../src/control/store.ts";
import { type ContractCase, NOW, pool } from "./store_ground.ts";

/** The cases about addresses. */
export const ADDRESS_CONTRACT: readonly ContractCase[] = [
  {
    name: "eight clients at two controllers never get one address twice",
    async run(ground) {
      await using first = await ground.open();
      await using second = await ground.open();
      const options = pool({ ipv4: "10.100.0.0/24", ipv6: "fd00::/64" });
      const results = await Promise.all(
        Array.from(
          { length: 253 },
          (_, i) => (i % 2 === 0 ? first : second).allocateAddress(`client-${i}`, options),
        ),
      );
      assert.equal(new Set(results.map(ipv4)).size, 253);
      assert.equal(new Set(results.map((result) => result.ok && result.allocation.virtualIp6)).size, 253);
      assert.deepEqual(await first.allocateAddress("one more", options), { ok: false, fault: "exhausted" });
      assert.equal((await second.addressStats()).allocated, 253);
    },
  },
  {
    name: "one client that asks two controllers at once gets one address",
    async run(ground) {
      await using first = await ground.open();
      await using second = await ground.open();
      for (let round = 0; round < 5; round++) {
        const results = await Promise.all(
          [first, second, first, second].map((store) => store.allocateAddress(`client-${round}`, pool())),
        );
        assert.equal(new Set(results.map(ipv4)).size, 1);
        assert.equal(results.filter((result) => result.ok && result.isNew).length, 1);
      }
      // All five addresses went to five clients: no attempt lost one.
      assert.equal((await first.addresses({ limit: 10 })).total, 5);
    },
  },
  {
    name: "of those who ask for a pool's last address at once, one gets it",
    async run(ground) {
      await using first = await ground.open();
      await using second = await ground.open();
      for (const client of ["a", "b", "c", "d"]) await first.allocateAddress(client, pool());
      const results = await Promise.all(
        Array.from(
          { length: 8 },
          (_, i) => (i % 2 === 0 ? first : second).allocateAddress(`late-${i}`, pool()),
        ),
      );
      assert.deepEqual(results.map(({ ok }) => ok).sort(), [...Array(7).fill(false), true]);
    },
  },
  {
    name: "the network, the relay's own and the broadcast address are given to nobody",
    async run(ground) {
      await using store = await ground.open();
      const given: (string | undefined)[] = [];
      for (let i = 0; i < 6; i++) given.push(ipv4(await store.allocateAddress(`client-${i}`, pool())));
      const all = ["10.100.0.2", "10.100.0.3", "10.100.0.4", "10.100.0.5", "10.100.0.6"];
      assert.deepEqual(given, [...all, undefined]);
      const reserved = ["10.100.0.0", "10.100.0.1", "10.100.0.7", "10.200.0.2", "fd00::2"];
      await store.releaseAddress("client-0");
      assert.equal(ipv4(await store.allocateAddress("x", pool({ reserved }))), "10.100.0.2");
    },
  },
  {
    name: "a client keeps its address, and comes back to it",
    async run(ground) {
      await using store = await ground.open();
      const first = await store.allocateAddress("a", pool({ metadata: { device: "laptop" } }));
      assert.deepEqual(first, {
        ok: true,
        isNew: true,
        reclaimed: null,
        allocation: {
          clientId: "a",
          virtualIp: "10.100.0.2",
          virtualIp6: null,
          allocatedAt: NOW,
          lastSeenAt: NOW,
          metadata: { device: "laptop" },
        },
      });
      const again = await store.allocateAddress("a", pool({ now: NOW + 5 }));
      assert.ok(again.ok && first.ok && !again.isNew);
      assert.deepEqual(again.allocation, { ...first.allocation, lastSeenAt: NOW + 5 });
      assert.equal(await store.refreshAddress("a", NOW + 9), true);
      assert.equal(await store.refreshAddress("b", NOW + 9), false);
      assert.deepEqual(await store.addressOf("a"), { ...first.allocation, lastSeenAt: NOW + 9 });
      assert.equal(await store.addressOf("b"), undefined);
    },
  },
  {
    name: "addresses nobody had are given before those that somebody had, the one free longest first",
    async run(ground) {
      let now = NOW;
      await using store = await ground.open();
      const allocate = async (client: string) =>
        ipv4(await store.allocateAddress(client, pool({ now: now++ })));
      assert.deepEqual([await allocate("a"), await allocate("b"), await allocate("c")], [
        "10.100.0.2",
        "10.100.0.3",
        "10.100.0.4",
      ]);
      assert.equal(await store.releaseAddress("b"), true);
      assert.equal(await store.releaseAddress("b"), false);
      assert.deepEqual([await allocate("d"), await allocate("e"), await allocate("f"), await allocate("g")], [
        "10.100.0.5",
        "10.100.0.6",
        "10.100.0.3",
        undefined,
      ]);
    },
  },
  {
    name: "a full pool takes from the client that was away longest, and from nobody seen lately",
    async run(ground) {
      await using store = await ground.open();
      for (const [i, client] of ["a", "b", "c", "d", "e"].entries()) {
        await store.allocateAddress(client, pool({ now: NOW + i }));
      }
      await store.refreshAddress("a", NOW + 50);
      const late = (client: string, reclaimBefore: number) =>
        store.allocateAddress(client, pool({ now: NOW + 100, reclaimBefore }));
      assert.deepEqual(await late("f", NOW + 1), { ok: false, fault: "exhausted" });
      const result = await late("f", NOW + 2);
      assert.deepEqual([ipv4(result), result.ok && result.reclaimed, result.ok && result.isNew], [
        "10.100.0.3",
        "b",
        true,
      ]);
      assert.equal(await store.addressOf("b"), undefined);
      assert.deepEqual(await late("g", NOW + 2), { ok: false, fault: "exhausted" });
      // Those at once take from different ones.
      const taken = await Promise.all(["h", "i"].map((client) => late(client, NOW + 10)));
      assert.deepEqual(taken.map((one) => one.ok && one.reclaimed).sort(), ["c", "d"]);
    },
  },
  {
    name: "what was not had cannot be lost: an exhausted pool gives nothing of the other family away",
    async run(ground) {
      await using store = await ground.open();
      const both = pool({ ipv4: "10.100.0.0/30", ipv6: "fd00::/125" });
      assert.equal((await store.allocateAddress("a", both)).ok, true);
      for (let i = 0; i < 20; i++) assert.equal((await store.allocateAddress(`x${i}`, both)).ok, false);
      for (let i = 0; i < 5; i++) {
        assert.equal((await store.allocateAddress(`y${i}`, { ...both, ipv4: null })).ok, true);
      }
    },
  },
  {
    name: "reserved addresses come first for their owner and are given to nobody else",
    async run(ground) {
      await using store = await ground.open();
      const excluded = ["10.100.0.2", "10.100.0.4"];
      assert.equal(ipv4(await store.allocateAddress("a", pool({ excluded }))), "10.100.0.3");
      assert.equal(ipv4(await store.allocateAddress("b", pool({ excluded }))), "10.100.0.5");
      assert.equal(ipv4(await store.allocateAddress("c", pool({ excluded }))), "10.100.0.6");
      assert.deepEqual(await store.allocateAddress("d", pool({ excluded })), {
        ok: false,
        fault: "exhausted",
      });
      const owner = pool({ reserved: ["10.100.0.4"], excluded: ["10.100.0.2"] });
      assert.equal(ipv4(await store.allocateAddress("owner", owner)), "10.100.0.4");
      // Who got a reservation moves to it; the address it leaves is free for others.
      assert.equal(ipv4(await store.allocateAddress("a", pool({ reserved: ["10.100.0.2"] }))), "10.100.0.2");
      assert.equal(ipv4(await store.allocateAddress("d", pool({ excluded }))), "10.100.0.3");
      // Who is on an address that is now another's moves away.
      await store.releaseAddress("c");
      const moved = await store.allocateAddress("b", pool({ excluded: [...excluded, "10.100.0.5"] }));
      assert.deepEqual([ipv4(moved), moved.ok && moved.isNew], ["10.100.0.6", false]);
    },
  },
  {
    name: "a client moves with the pools of the network",
    async run(ground) {
      await using store = await ground.open();
      const ask = async (change: Partial<AllocationOptions>) => {
        const result = await store.allocateAddress("a", pool(change));
        assert.ok(result.ok);
        return [result.allocation.virtualIp, result.allocation.virtualIp6];
      };
      assert.deepEqual(await ask({}), ["10.100.0.2", null]);
      assert.deepEqual(await ask({ ipv6: "fd00::/64" }), ["10.100.0.2", "fd00::2"]);
      assert.deepEqual(await ask({ ipv4: "10.101.0.0/24", ipv6: "fd00::/64" }), ["10.101.0.2", "fd00::2"]);
      assert.deepEqual(await ask({ ipv4: null, ipv6: "fd00::/64" }), [null, "fd00::2"]);
      // An address that nobody had before one that somebody had, even this client.
      assert.deepEqual(await ask({}), ["10.100.0.3", null]);
      await assert.rejects(store.allocateAddress("a", pool({ ipv4: "fd00::/64" })), RangeError);
    },
  },
  {
    name: "a pool that overlaps with an earlier one gives no address twice",
    async run(ground) {
      await using store = await ground.open();
      const given = new Set<string | undefined>();
      for (const [i, ipv4Pool] of ["10.100.0.0/29", "10.100.0.0/28", "10.100.0.0/27"].entries()) {
        for (let client = 0; client < 5; client++) {
          given.add(ipv4(await store.allocateAddress(`${i}-${client}`, pool({ ipv4: ipv4Pool }))));
        }
      }
      assert.equal(given.size, 15);
      for (let client = 0; client < 5; client++) await store.releaseAddress(`0-${client}`);
      const again: (string | undefined)[] = [];
      for (let i = 0; i < 5; i++) again.push(ipv4(await store.allocateAddress(`small-${i}`, pool())));
      for (let i = 0; i < 8; i++) {
        again.push(ipv4(await store.allocateAddress(`middle-${i}`, pool({ ipv4: "10.100.0.0/28" }))));
      }
      const live = (await pages(store)).map(({ virtualIp }) => virtualIp);
      assert.equal(new Set(live).size, live.length);
      assert.equal(again[0], "10.100.0.2");
    },
  },
  {
    name: "a large pool gives its addresses in ascending order, past its first block",
    async run(ground) {
      await using store = await ground.open();
      for (let i = 0; i < 300; i++) {
        const address = ipv4(await store.allocateAddress(`client-${i}`, pool({ ipv4: "10.0.0.0/16" })));
        assert.equal(address, `10.0.${(i + 2) >> 8}.${(i + 2) & 255}`);
      }
    },
  },
  {
    name: "addresses are listed by client, in pages",
    async run(ground) {
      await using store = await ground.open();
      assert.deepEqual(await store.addressStats(), { allocated: 0, oldestSeenAt: null });
      for (const [i, client] of ["c", "a", "b"].entries()) {
        await store.allocateAddress(client, pool({ now: NOW + i }));
      }
      const all = await pages(store);
      assert.deepEqual(all.map(({ clientId }) => clientId), ["a", "b", "c"]);
      assert.deepEqual(await store.addressStats(), { allocated: 3, oldestSeenAt: NOW });
    },
  },
];

function ipv4(result: AllocationResult): string | undefined {
  return result.ok ? result.allocation.virtualIp ?? undefined : undefined;
}

async function pages(store: Store) {
  const all = [];
  let cursor: string | undefined;
  do {
    const page = await store.addresses({ limit: 2, ...(cursor === undefined ? {} : { cursor }) });
    all.push(...page.items);
    cursor = page.cursor ?? undefined;
  } while (cursor !== undefined);
  return all;
}
