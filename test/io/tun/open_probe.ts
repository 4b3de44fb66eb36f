/** Opens an interface and tells how that went, for a process with fewer rights than the tests have. */

import { claimNetAdmin, openTun } from "../../../src/io/tun/device.ts";

const [name = "gtprobe"] = Deno.args;
try {
  const claimed = claimNetAdmin();
  const device = openTun({ name, mtu: 1_280 });
  // What we start must be able to do the same, or the interface could not be set up.
  const { success } = new Deno.Command("ip", { args: ["link", "set", name, "up"] }).outputSync();
  device.close();
  console.log(JSON.stringify({ opened: device.name, claimed, children: success }));
} catch (error) {
  const { code, message, hint } = error as { code?: string; message: string; hint?: string };
  console.log(JSON.stringify({ code, message, hint }));
}
