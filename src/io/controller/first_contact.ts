/**
 * First contact with a controller: a device that knows only the fingerprint of the network's CA gets the CA itself from
 * the TLS handshake. Nothing is sent; what comes is worth nothing until its fingerprint is right.
 */

import { createHash } from "node:crypto";
import { connect, type DetailedPeerCertificate } from "node:tls";
import { errorMessage, GinnelError } from "../../base/errors.ts";
import { withDeadline } from "../../base/async.ts";
import { encodePem } from "../../identity/pem.ts";
import { serverName } from "../../identity/spiffe_id.ts";
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

/** Most certificates looked at: a controller sends its own and those of the CA, which a rollover makes two. */
const MAX_CHAIN_LENGTH = 8;

/**
 * Returns the network's CA certificate as PEM. It says who may be trusted, not that this controller is one of them:
 * verify that by an ordinary connection before anything is sent. Throws `ERR_CONTROLLER_CA_MISMATCH` when controllers
 * answer but none shows that CA.
 */
export async function fetchPinnedCa(options: FirstContactOptions): Promise<string> {
  const { controllers, fingerprints, timeoutMs = 5_000, signal } = options;
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

function fingerprintOf(der: Uint8Array): string {
  return createHash("sha256").update(der).digest("base64url");
}

/** The certificates a server shows in its handshake, whoever it is. */
function shownCertificates(place: ControllerPlace, signal: AbortSignal): Promise<readonly Uint8Array[]> {
  const url = new URL(place.url);
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: url.hostname.replace(/^\[|\]$/g, ""),
      port: url.port === "" ? 443 : Number(url.port),
      servername: serverName("controller", place.name),
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
