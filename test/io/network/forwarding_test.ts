import assert from "node:assert/strict";
import {
  droppingChains,
  isForwarding,
  planForwarding,
  restoreSettings,
  writeSettings,
} from "../../../src/io/network/forwarding.ts";
import { fakeFiles } from "./fakes.ts";

const SETTINGS = {
  "/proc/sys/net/ipv4/ip_forward": "0",
  "/proc/sys/net/ipv4/conf/all/accept_redirects": "1",
  "/proc/sys/net/ipv4/conf/default/forwarding": "0",
  "/proc/sys/net/ipv4/conf/eth0/forwarding": "1",
  "/proc/sys/net/ipv6/conf/all/forwarding": "0",
  "/proc/sys/net/ipv6/conf/default/forwarding": "0",
  "/proc/sys/net/ipv6/conf/default/accept_ra": "0",
  "/proc/sys/net/ipv6/conf/eth0/forwarding": "0",
  "/proc/sys/net/ipv6/conf/eth0/accept_ra": "1",
};
const INTERFACES = ["eth0", "gone"];

Deno.test("planForwarding() writes the switch, last of IPv6, and remembers what changes along with it", () => {
  const files = fakeFiles(SETTINGS);
  const written = (version: 4 | 6) =>
    planForwarding(version, { files, interfaces: INTERFACES })
      .filter(({ before, after }) => before !== after).map(({ path, after }) => `${path}=${after}`);
  assert.deepEqual(written(4), ["net/ipv4/ip_forward=1"]);
  assert.deepEqual(written(6), ["net/ipv6/conf/eth0/accept_ra=2", "net/ipv6/conf/all/forwarding=1"]);
  const kept = planForwarding(4, { files, interfaces: INTERFACES }).map(({ path }) => path);
  assert.ok(kept.includes("net/ipv4/conf/all/accept_redirects"));
  assert.ok(kept.includes("net/ipv4/conf/eth0/forwarding"));
  assert.ok(kept.every((path) => !path.includes("gone")));
});

Deno.test("planForwarding() wants nothing where forwarding is on or unknown", () => {
  const on = fakeFiles({ "/proc/sys/net/ipv4/ip_forward": "1" });
  for (const version of [4, 6] as const) {
    assert.deepEqual(planForwarding(version, { files: on, interfaces: INTERFACES }), []);
  }
  assert.deepEqual([isForwarding(4, on), isForwarding(6, on)], [true, undefined]);
});

Deno.test("restoreSettings() puts everything back, also what the kernel changed by itself", () => {
  for (const version of [4, 6] as const) {
    const files = fakeFiles(SETTINGS);
    const changes = planForwarding(version, { files, interfaces: INTERFACES });
    writeSettings(changes, files);
    files.content.set(`/proc/sys/net/ipv${version}/conf/default/forwarding`, "1");
    files.content.set(`/proc/sys/net/ipv${version}/conf/eth0/forwarding`, "1");
    if (version === 4) files.content.set("/proc/sys/net/ipv4/conf/all/accept_redirects", "0");
    restoreSettings(changes, files);
    assert.deepEqual(Object.fromEntries(files.content), SETTINGS);
  }
});

Deno.test("restoreSettings() leaves a switch to whoever set it since, and an interface that is gone", () => {
  const path = "/proc/sys/net/ipv6/conf/eth0/accept_ra";
  const files = fakeFiles({ [path]: "0" });
  restoreSettings([
    { path: "net/ipv6/conf/eth0/accept_ra", before: "1", after: "2" },
    { path: "net/ipv6/conf/gone/accept_ra", before: "1", after: "2" },
  ], files);
  assert.deepEqual([...files.content], [[path, "0"]]);
});

Deno.test("droppingChains() finds foreign chains that drop by default, and only those on the way of forwarding", () => {
  const chain = (table: string, rest: Record<string, string>) => ({
    chain: { family: "ip", table, name: "C", ...rest },
  });
  const text = JSON.stringify({
    nftables: [
      { metainfo: {} },
      chain("filter", { hook: "forward", policy: "drop" }),
      chain("ours", { hook: "forward", policy: "drop" }),
      chain("open", { hook: "forward", policy: "accept" }),
      chain("input", { hook: "input", policy: "drop" }),
      chain("jump", {}),
    ],
  });
  assert.deepEqual(droppingChains(text, ["ours"]), ["ip filter C"]);
  assert.deepEqual(droppingChains("{}", []), []);
});
