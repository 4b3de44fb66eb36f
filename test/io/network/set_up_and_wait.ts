/** A process that sets up everything around an interface and then waits to be killed: for `host_network_test.ts`. */

import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { HostNetwork } from "../../../src/io/network/host_network.ts";
import { setUpAll } from "./set_up_all.ts";

const [name = "", directory = "", resolvConf = ""] = Deno.args;
const network = await HostNetwork.open(name, { logger: SILENT_LOGGER, directory, resolvConf });
await setUpAll(network);
console.log("ready");
// Nobody calls.
await Deno.listen({ hostname: "127.0.0.1", port: 0 }).accept();
