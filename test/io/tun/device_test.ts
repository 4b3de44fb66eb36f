/** What `openTun()` says where it cannot: one message that names what is missing and how to grant it. */

import assert from "node:assert/strict";
import { checkTun, claimNetAdmin, openTun } from "../../../src/io/tun/device.ts";
import { openError } from "../../../src/io/tun/errors.ts";
import { runCommand } from "../../support/processes.ts";
import { needsTool, testNeeding } from "../../support/require_tool.ts";
import { ip, TUN_NEEDS } from "./tun_pair.ts";

const PROBE = new URL("./open_probe.ts", import.meta.url).pathname;
const NEEDS = [
  ...TUN_NEEDS,
  needsTool("unshare", { install: "part of every Linux system" }),
  needsTool("setpriv", { install: "part of every Linux system" }),
];

testNeeding(NEEDS, "without /dev/net/tun it says so, and how to get the device", async () => {
  for (
    const hide of [
      "mount -t tmpfs none /dev/net",
      "mount -t tmpfs none /dev/net; mknod /dev/net/tun c 10 255",
    ]
  ) {
    const told = await probe(["unshare", "-nm", "sh", "-c", `${hide}; exec "$@"`, "sh"]);
    assert.equal(told.code, "ERR_TUN_NO_DEVICE");
    assert.equal(told.foreseen, told.message);
    assert.match(told.message, /^This machine offers no \/dev\/net\/tun \(EN/);
    assert.match(told.hint, /modprobe tun.*--device \/dev\/net\/tun --cap-add NET_ADMIN/);
  }
});

testNeeding(NEEDS, "without CAP_NET_ADMIN it says so, and how to grant just that", async () => {
  const told = await probe([
    "unshare",
    "-n",
    "setpriv",
    "--bounding-set=-net_admin",
    "--inh-caps=-net_admin",
  ]);
  assert.equal(told.code, "ERR_TUN_NO_PRIVILEGE");
  assert.equal(told.foreseen, told.message);
  assert.match(told.message, /without the capability CAP_NET_ADMIN/);
  for (const way of ["setcap cap_net_admin+ep", "AmbientCapabilities=CAP_NET_ADMIN", "--cap-add NET_ADMIN"]) {
    assert.ok(told.hint.includes(way), way);
  }
});

testNeeding(NEEDS, "a device that this user may not open is told from one that is not there", () => {
  const { code, message, hint } = openError({ name: "ginnel0", errno: 13, deviceOpened: false });
  assert.equal(code, "ERR_TUN_NO_DEVICE");
  assert.match(message, /may not open \/dev\/net\/tun \(EACCES\)/);
  assert.match(hint ?? "", /chmod 0666/);
});

testNeeding(
  NEEDS,
  "with the privilege it opens, and the programs it starts have the privilege too",
  async () => {
    assert.deepEqual(await probe(["unshare", "-n"]), { opened: "gtprobe", claimed: true, children: true });
    // Root without the privileges of root: only what is handed on reaches a child.
    const bare = [
      "unshare",
      "-n",
      "setpriv",
      "--securebits=+noroot",
      "--inh-caps=+net_admin",
      "--ambient-caps=+net_admin",
    ];
    assert.deepEqual(await probe(bare), { opened: "gtprobe", claimed: true, children: true });
  },
);

testNeeding(NEEDS, "an interface that another program uses, or of another kind, is named", async () => {
  const name = `gt${Deno.pid % 100_000}b`;
  const device = openTun({ name, mtu: 1_280 });
  assert.throws(() => openTun({ name, mtu: 1_280 }), { code: "ERR_TUN_BUSY", message: new RegExp(name) });
  device.close();
  assert.throws(() => openTun({ name: "lo", mtu: 1_280 }), {
    code: "ERR_TUN_NAME",
    hint: /tunnel\.interface/,
  });
  await assert.rejects(() => ip(["link", "show", name]));
});

testNeeding(NEEDS, "an MTU that the kernel refuses leaves no interface behind", async () => {
  const name = `gt${Deno.pid % 100_000}u`;
  assert.throws(() => openTun({ name, mtu: 5 }), { code: "ERR_TUN_MTU" });
  await assert.rejects(() => ip(["link", "show", name]));
});

testNeeding(NEEDS, "checkTun() finds nothing in the way and makes nothing", async () => {
  const before = await ip(["-brief", "link"]);
  checkTun("ginnel0");
  assert.equal(await ip(["-brief", "link"]), before);
});

testNeeding(NEEDS, "this process has the privilege", () => {
  assert.equal(claimNetAdmin(), true);
});

Deno.test("names that are none are refused before the kernel sees them", () => {
  for (const name of ["", "tun%d", "a/b", "Ginnel0", "0a", "a b", "a".repeat(16), "ginnel0\0", "ä"]) {
    assert.throws(() => openTun({ name, mtu: 1_280 }), { code: "ERR_TUN_NAME" }, name);
  }
});

// deno-lint-ignore no-explicit-any
async function probe(within: readonly string[]): Promise<any> {
  return JSON.parse(await runCommand([...within, Deno.execPath(), "run", "-A", PROBE]));
}
