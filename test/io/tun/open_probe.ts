/** Opens an interface and tells how that went, for a process with fewer rights than the tests have. */

import { checkTun, claimNetAdmin, openTun } from "../../../src/io/tun/device.ts";

const [name = "gtprobe"] = Deno.args;
const foreseen = foresee();
try {
  const claimed = claimNetAdmin();
  const device = openTun({ name, mtu: 1_280 });
  // What we start must be able to do the same, or the interface could not be set up.
  const { success } = new Deno.Command("ip", { args: ["link", "set", name, "up"] }).outputSync();
  device.close();
  console.log(JSON.stringify({ opened: device.name, claimed, children: success, foreseen }));
} catch (error) {
  const { code, message, hint } = error as { code?: string; message: string; hint?: string };
  console.log(JSON.stringify({ code, message, hint, foreseen }));
}

/** The message of what `checkTun()` throws. */
function foresee(): string | undefined {
  try {
    checkTun(name);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
