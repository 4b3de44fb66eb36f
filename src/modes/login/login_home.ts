/** Where a user logs in: the network's controllers and CAs, from an identity file or from a pinned fingerprint. */

import { GinnelError } from "../../base/errors.ts";
import { parseCertificatesPem } from "../../identity/certificate.ts";
import type { Identity } from "../../identity/identity_file.ts";
import { parseTrustDomainUri } from "../../identity/spiffe_id.ts";
import { findController, parseController } from "../../io/controller/find_controller.ts";
import { fetchPinnedCa } from "../../io/controller/first_contact.ts";
import type { ControllerPlace } from "../../io/controller/https_client.ts";

/** A network that one can log in to. */
export interface LoginHome {
  readonly trustDomain: string;
  readonly controllers: readonly ControllerPlace[];
  /** CA certificates, PEM. */
  readonly roots: readonly string[];
}

/** Finds the network behind one controller, `URL` or `NAME=URL`, whose CA must have this fingerprint. */
export async function homeOfController(
  controller: string,
  { caHash, signal }: { readonly caHash: string; readonly signal: AbortSignal },
): Promise<LoginHome> {
  const controllers = [await findController(parseController(controller), { signal })];
  const root = await fetchPinnedCa({ controllers, fingerprints: [caHash], signal });
  const [uri] = parseCertificatesPem(root)[0]!.uriNames;
  if (uri === undefined) {
    throw new GinnelError(
      "ERR_CONTROLLER_CA_MISMATCH",
      "Cannot trust the controller: its CA is no network's",
    );
  }
  return { trustDomain: parseTrustDomainUri(uri), controllers, roots: [root] };
}

/** Finds the network of an identity file, the user's own or the device's. */
export function homeOfIdentity(identity: Identity, path: string): LoginHome {
  const controllers = identity.network?.controllers ?? [];
  if (controllers.length === 0) {
    throw new GinnelError("ERR_LOGIN_NO_CONTROLLER", `Cannot log in with ${path}: it names no controller`, {
      hint: "Name one with --controller URL --ca-hash HASH",
    });
  }
  const { domain, roots } = identity.trust;
  return { trustDomain: domain, controllers, roots };
}
