import assert from "node:assert/strict";
import { ipWords, parseIp, parsePrefix } from "../../../../src/base/ip.ts";
import { OwnAddresses } from "../../../../src/modes/relay/tunnel/own_addresses.ts";

Deno.test("own addresses: each itself and its network's broadcast, none of the pools, nobody else's", () => {
  const own = new OwnAddresses({
    except: ["10.100.0.0/24", "fd99::/64"].map((text) => parsePrefix(text)!),
    read:
      () => ["127.0.0.1/8", "192.0.2.3/24", "10.100.0.1/24", "198.51.100.7/32", "fd77::3/64", "fd99::1/64"],
  });
  for (const address of ["127.0.0.1", "192.0.2.3", "192.0.2.0", "192.0.2.255", "198.51.100.7", "fd77::3"]) {
    assert.equal(contains(own, address), true, address);
  }
  for (
    const address of ["192.0.2.2", "192.0.2.4", "198.51.100.8", "fd77::", "fd77::4", "10.100.0.1", "fd99::1"]
  ) assert.equal(contains(own, address), false, address);
});

Deno.test("own addresses: read again after a while, and what a kernel says that we do not understand is skipped", () => {
  let addresses = ["192.0.2.3/24", "", "fe80::1%eth0/64"];
  let now = 1_000_000;
  const own = new OwnAddresses({ except: [], read: () => addresses, now: () => now });
  assert.equal(contains(own, "192.0.2.3"), true);
  addresses = ["192.0.2.9/24"];
  now += 4_999;
  assert.equal(contains(own, "192.0.2.9"), false);
  now += 1;
  assert.equal(contains(own, "192.0.2.9"), true);
  assert.equal(contains(own, "192.0.2.3"), false);
  addresses = ["192.0.2.3/24"];
  // A clock that was set back must not keep the old ones for a day.
  now -= 86_400_000;
  assert.equal(contains(own, "192.0.2.3"), true);
});

Deno.test("own addresses: by default those of this machine", () => {
  assert.equal(contains(new OwnAddresses({ except: [] }), "127.0.0.1"), true);
});

function contains(own: OwnAddresses, text: string): boolean {
  const address = parseIp(text)!;
  const [dst0 = 0, dst1 = 0, dst2 = 0, dst3 = 0] = ipWords(address).map((word) => word | 0);
  return own.contains({ version: address.version, dst0, dst1, dst2, dst3 });
}
