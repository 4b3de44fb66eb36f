/**
 * Rejections that nobody awaits, such as those of a vanished peer's streams inside the runtime.
 */

import { errorCode, errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";

/** From now on a stray rejection is logged and the process goes on: one peer must not take the node down. */
export function logStrayRejections(logger: Logger): void {
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    const { reason } = event;
    logger.error("unhandled_rejection", {
      code: errorCode(reason),
      reason: errorMessage(reason),
      stack: reason instanceof Error ? reason.stack : undefined,
    });
  });
}
