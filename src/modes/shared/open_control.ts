/** Opens a node's control socket: where its config says, or else at the place that its user's nodes have by default. */

import { join } from "node:path";
import type { Upstream } from "../../base/address.ts";
import { errorCode, errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { SpiffeId } from "../../identity/spiffe_id.ts";
import { controlFolders, controlName, processSurroundings } from "./control_path.ts";
import { ControlSocket } from "./control_socket.ts";

/** What a control socket depends on. */
export interface ControlOptions {
  /** As the config says; null: there is none. */
  readonly address: Upstream | null | undefined;
  readonly id: SpiffeId;
  readonly status: () => Promise<unknown>;
  readonly logger: Logger;
}

/** Opens the socket; one that the config asks for must come about, the default one need not. */
export async function openControl(
  { address, id, ...rest }: ControlOptions,
): Promise<ControlSocket | undefined> {
  if (address === null) return undefined;
  if (address?.kind === "unix") return await ControlSocket.start({ path: address.path, ...rest });
  const [folder] = controlFolders(processSurroundings());
  try {
    return await ControlSocket.start({ path: join(folder!, controlName(id)), ...rest });
  } catch (error) {
    rest.logger.info("no_control_socket", { code: errorCode(error), reason: errorMessage(error) });
    return undefined;
  }
}
