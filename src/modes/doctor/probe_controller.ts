/** Asks a controller of the network for its health, for `ginnel doctor`: is it there, is it the one, how late is it there. */

import type { Identity } from "../../identity/identity_file.ts";
import { ControllerHttp, type ControllerPlace } from "../../io/controller/https_client.ts";

/** What a controller's answer tells. */
export interface ControllerAnswer {
  readonly status: number;
  /** Milliseconds that it took. */
  readonly took: number;
  /** Milliseconds by which our clock is ahead of the controller's; undefined where it did not tell the time. */
  readonly ahead: number | undefined;
}

/** Milliseconds that it may take. */
const TIMEOUT = 3_000;

/** Asks one controller; rejects when it cannot be reached, or is not the one named. */
export async function probeController(
  controller: ControllerPlace,
  { trust }: Pick<Identity, "trust">,
): Promise<ControllerAnswer> {
  using http = new ControllerHttp({
    controllers: () => [controller],
    roots: () => trust.roots,
    timeoutMs: TIMEOUT,
    connectTimeoutMs: TIMEOUT,
  });
  const started = performance.now();
  const { status, headers } = await http.request({ method: "GET", path: "/health" });
  const took = performance.now() - started;
  const theirs = Date.parse(headers.date ?? "");
  // The time is told in whole seconds, and was so on average half an answer and half a second ago.
  const ahead = Number.isNaN(theirs) ? undefined : Math.round(Date.now() - took / 2 - (theirs + 500));
  return { status, took, ahead };
}
