/** Opens the source of a relay's knowledge that its config names. */

import { type RelayConfig, relaySource } from "../../../config/schema/relay.ts";
import type { ModeContext } from "../../running.ts";
import { ControllerSource } from "./controller_source.ts";
import { FilesSource } from "./files_source.ts";
import type { NetworkSource } from "./network_source.ts";
import { RemoteHome } from "./remote_home.ts";

/** Rejects when the relay cannot start with what there is. */
export async function openSource(config: RelayConfig, context: ModeContext): Promise<NetworkSource> {
  const { logger, announce = () => {} } = context;
  const { data } = config;
  const source = relaySource(config);
  switch (source.kind) {
    case "files":
      return await FilesSource.open(source, { logger });
    case "embedded": {
      // Only a relay with a controller loads one.
      const { EmbeddedHome } = await import("./embedded_home.ts");
      return await ControllerSource.open({
        home: await EmbeddedHome.open({ ...source, logger, announce }),
        data,
        logger,
      });
    }
    case "remote":
      return await ControllerSource.open({
        home: await RemoteHome.open({ ...source, logger }),
        data,
        logger,
      });
  }
}
