/** Mode `controller`: identities, policies, addresses and audit of a network behind one API. */

import { GinnelError } from "../../base/errors.ts";
import type { ControllerConfig } from "../../config/schema/controller.ts";
import type { ModeContext, Running } from "../running.ts";

/** Starts a controller. */
export function runController(_config: ControllerConfig, _context: ModeContext): Promise<Running> {
  return Promise.reject(new GinnelError("ERR_NOT_YET", "This version has no controller yet"));
}
