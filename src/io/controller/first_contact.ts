/**
 * First contact with a controller: a device that knows only the fingerprint of the network's CA gets the CA itself from
 * the TLS handshake, and one that knows only an address the controller's name. Nothing is sent; what comes is worth
 * nothing until the fingerprint is right, and until a controller of that name was verified.
 */

import { createHash } from "node:crypto";
import { connect, type DetailedPeerCertificate } from "node:tls";
import { errorMessage, GinnelError } from "../../base/errors.ts";
import { withDeadline } from "../../base/async.ts";
import { parseCertificate } from "../../identity/certificate.ts";
import { IdentityError } from "../../identity/errors.ts";
import { encodePem } from "../../identity/pem.ts";
import { parseSpiffeId, serverName } from "../../identity/spiffe_id.ts";
import type { ControllerPlace } from "./https_client.ts";

/** Whom to ask, and what to believe. */
export interface FirstContactOptions {
  readonly controllers: readonly ControllerPlace[];
  /** SHA-256 of the CA certificate's DER, base64url: any of them will do. */
  readonly fingerprints: readonly string[];
  /** Milliseconds for each controller; default 5,000. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** Milliseconds for a controller, unless told otherwise. */
const DEFAULT_TIMEOUT_MS = 5_000;

/** Most certificates looked at: a controller sends its own and those of the CA, which a rollover makes two. */
const MAX_CHAIN_LENGTH = 8;

/**
 * Returns the network's CA certificate as PEM. It says who may be trusted, not that this controller is one of them:
 * verify that by an ordinary connection before anything is sent. Throws `ERR_CONTROLLER_CA_MISMATCH` when controllers
 * answer but none shows that CA.
 */
export async function fetchPinnedCa(options: FirstContactOptions): Promise<string> {
  const { controllers, fingerprints, timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
  const faults: string[] = [];
  let isAnswered = false;
  for (const place of controllers) {
    try {
      const task = (ending: AbortSignal) => shownCertificates(place, ending);
      const certificates = await withDeadline(timeoutMs, task, signal === undefined ? {} : { signal });
      isAnswered = true;
      const pinned = certificates.find((der) => fingerprints.includes(fingerprintOf(der)));
      if (pinned !== undefined) return encodePem("CERTIFICATE", pinned);
      faults.push(`${place.name} at ${place.url} shows another CA`);
    } catch (error) {
      signal?.throwIfAborted();
      faults.push(`${place.name} at ${place.url}: ${errorMessage(error)}`);
    }
  }
  const detail = faults.join("; ");
  if (isAnswered) {
    throw new GinnelError("ERR_CONTROLLER_CA_MISMATCH", `Cannot trust the controller: ${detail}`, {
      hint:
        "Somebody may stand in between, or the network's CA was replaced: ask its administrator for a new token",
    });
  }
  throw new GinnelError("ERR_CONTROLLER_UNREACHABLE", `Cannot reach a controller: ${detail}`, {
    hint: "Check that a controller runs and that its address is right",
  });
}

/**
 * The controller at an address, by the name in its certificate. It may be anybody who calls itself so: an ordinary
 * connection, which asks for that name under the network's CA, tells. Throws `ERR_CONTROLLER_URL` when it is none.
 */
export async function learnController(
  url: string,
  options: Pick<FirstContactOptions, "timeoutMs" | "signal"> = {},
): Promise<ControllerPlace> {
  const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
  let leaf: Uint8Array | undefined;
  try {
    const task = (ending: AbortSignal) => shownCertificates({ url }, ending);
    [leaf] = await withDeadline(timeoutMs, task, signal === undefined ? {} : { signal });
  } catch (cause) {
    signal?.throwIfAborted();
    throw new GinnelError(
      "ERR_CONTROLLER_UNREACHABLE",
      `Cannot reach a controller at ${url}: ${errorMessage(cause)}`,
      { cause, hint: "Check that a controller runs and that its address is right" },
    );
  }
  const name = leaf === undefined ? undefined : controllerName(leaf);
  if (name !== undefined) return { name, url };
  throw new GinnelError("ERR_CONTROLLER_URL", `Cannot use ${url}: whoever answers there is no controller`, {
    hint: "Check the address: the controller's port is 8441 unless its config says otherwise",
  });
}

/** The name of the controller whose certificate this is; undefined where it is not a controller's. */
function controllerName(der: Uint8Array): string | undefined {
  try {
    const { uriNames } = parseCertificate(der);
    const { kind, name } = parseSpiffeId(uriNames.length === 1 ? uriNames[0]! : "");
    return kind === "controller" ? name : undefined;
  } catch (error) {
    if (error instanceof IdentityError) return undefined;
    throw error;
  }
}

function fingerprintOf(der: Uint8Array): string {
  return createHash("sha256").update(der).digest("base64url");
}

/** The certificates a server shows in its handshake, whoever it is. */
function shownCertificates(
  place: { readonly url: string; readonly name?: string },
  signal: AbortSignal,
): Promise<readonly Uint8Array[]> {
  const url = new URL(place.url);
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: url.hostname.replace(/^\[|\]$/g, ""),
      port: url.port === "" ? 443 : Number(url.port),
      ...(place.name !== undefined && { servername: serverName("controller", place.name) }),
      ALPNProtocols: ["http/1.1"],
      // The one place where anybody is talked to: what is learnt is compared with the fingerprint, and nothing is said.
      rejectUnauthorized: false,
    });
    const onAbort = () => socket.destroy(new Error("no handshake in time"));
    signal.addEventListener("abort", onAbort, { once: true });
    socket.once("error", reject);
    socket.once("close", () => {
      signal.removeEventListener("abort", onAbort);
      reject(new Error("the connection ended in the handshake"));
    });
    socket.once("secureConnect", () => {
      const shown: Uint8Array[] = [];
      let certificate: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
      while (certificate?.raw !== undefined && shown.length < MAX_CHAIN_LENGTH) {
        shown.push(new Uint8Array(certificate.raw));
        const issuer: DetailedPeerCertificate | undefined = certificate.issuerCertificate;
        certificate = issuer === certificate ? undefined : issuer;
      }
      resolve(shown);
      socket.destroy();
    });
  });
}
