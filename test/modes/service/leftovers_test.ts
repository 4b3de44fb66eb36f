/** What a killed node left is gone after an uninstall, with its journals and without them. */

import { HostNetwork } from "../../../src/io/network/host_network.ts";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { parseConfig } from "../../../src/config/parse_config.ts";
import { undoLeftovers } from "../../../src/modes/service/leftovers.ts";
import { assertSame, NEEDS, onGround } from "../../io/network/ground.ts";
import { TUNNEL } from "../../io/network/values.ts";
import { ManagedProcess } from "../../support/processes.ts";
import { testNeeding } from "../../support/require_tool.ts";

const CHILD = new URL("../../io/network/set_up_and_wait.ts", import.meta.url).pathname;
const AGENT = parseConfig(
  JSON.stringify({ mode: "agent", identity: "a.json", tunnel: { interface: TUNNEL }, services: {} }),
  { file: "/etc/agent.json" },
);

testNeeding(
  NEEDS,
  "undoLeftovers() undoes what a killed agent set up, and nothing where there is nothing",
  () =>
    onGround(async (ground) => {
      const before = await ground.picture();
      const { directory, resolvConf } = ground;
      const command = [Deno.execPath(), "run", "--allow-all", CHILD, TUNNEL, directory, resolvConf];
      await using child = ManagedProcess.spawn(ground.command(command));
      await child.waitForLine(/^ready$/);
      await child.stop({ signal: "SIGKILL" });
      await undoLeftovers(AGENT, { directory, resolvConf });
      assertSame(await ground.picture(), before);
      await undoLeftovers(AGENT, { directory, resolvConf });
      assertSame(await ground.picture(), before);
      // Free again: nobody holds the interface.
      await using _network = await HostNetwork.open(TUNNEL, { logger: SILENT_LOGGER, directory, resolvConf });
    }),
);
