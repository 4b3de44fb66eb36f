/** Proves a node's newer certificate on its living connection to a relay, again and again until it is taken. */

import { sleep } from "../../base/async.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ClientConnection } from "../../dataplane/carrier.ts";
import { VIEW_PATH } from "../../wire/masque/uri.ts";

/** Tries, the first two so many milliseconds apart. */
const TRIES = 6;
const RETRY_MS = 5_000;
const TIMEOUT_MS = 5_000;

/** What a renewal needs of its relay's client. */
export interface ProofRenewalOptions {
  readonly relay: string;
  readonly authority: string;
  readonly connection: () => ClientConnection | undefined;
  /** A fresh proof, as an `Authorization` value. */
  readonly authorization: () => Promise<string>;
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

/** Resolves when there is nothing more to do, or when the signal fires. */
export async function renewProof(options: ProofRenewalOptions): Promise<void> {
  const { signal } = options;
  for (let attempt = 0; attempt < TRIES && !signal.aborted; attempt++) {
    const connection = options.connection();
    // The next connection begins with the newer certificate.
    if (connection === undefined || await renewOn(connection, options)) return;
    await sleep(RETRY_MS * 2 ** attempt, { signal }).catch(ignore);
  }
}

/** Whether there is nothing more to do for this connection. */
async function renewOn(connection: ClientConnection, options: ProofRenewalOptions): Promise<boolean> {
  const { relay, authority, authorization, logger } = options;
  try {
    const headers: [string, string][] = [["authorization", await authorization()]];
    const init = { method: "HEAD", scheme: "https", authority, path: VIEW_PATH, headers };
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const { head, body } = await connection.request(init, { signal, end: true });
    body.abort();
    // Any other answer was given to somebody it knows.
    if (head.status !== 401) return true;
    const reason = head.headers.get("proxy-status") ?? "no reason given";
    logger.warn("relay_renewal_refused", { relay, reason });
  } catch (error) {
    logger.debug("relay_renewal_failed", { relay, detail: errorMessage(error) });
  }
  return options.connection() !== connection;
}

function ignore(): void {}
