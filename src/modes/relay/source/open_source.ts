/** Opens the source of a relay's knowledge that its config names. */

import { GinnelError } from "../../../base/errors.ts";
import type { Logger } from "../../../base/log.ts";
import { type RelayConfig, relaySource } from "../../../config/schema/relay.ts";
import { FilesSource } from "./files_source.ts";
import type { NetworkSource } from "./network_source.ts";

/** Rejects when the relay cannot start with what there is. */
export function openSource(
  config: RelayConfig,
  options: { readonly logger: Logger },
): Promise<NetworkSource> {
  const source = relaySource(config);
  switch (source.kind) {
    case "files":
      return FilesSource.open(source, options);
    case "embedded":
    case "remote":
      return Promise.reject(new GinnelError("ERR_NOT_YET", "Relays cannot follow a controller yet"));
  }
}
