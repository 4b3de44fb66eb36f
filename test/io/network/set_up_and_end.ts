/** A process that sets up everything around an interface, shows it and undoes it: for `commands_test.ts`. */

import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { systemCommands } from "../../../src/io/network/commands.ts";
import { HostNetwork } from "../../../src/io/network/host_network.ts";
import { setUpAll } from "./set_up_all.ts";

const [name = "", directory = ""] = Deno.args;
const commands = systemCommands();
const network = await HostNetwork.open(name, {
  logger: SILENT_LOGGER,
  directory,
  resolvConf: `${directory}/resolv.conf`,
});
try {
  await setUpAll(network);
  console.log(`set up by ${Deno.uid()}`);
  console.log((await commands.run("ip", ["route"])).stdout);
  console.log((await commands.run("nft", ["list", "ruleset"])).stdout);
} finally {
  await network.close();
}
