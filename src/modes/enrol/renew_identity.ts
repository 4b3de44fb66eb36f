/** One renewal: a new key, a certificate for it, and the identity file that holds both from then on. */

import { makeCsr } from "../../identity/csr.ts";
import { IdentityError } from "../../identity/errors.ts";
import { type Identity, updateIdentityFile } from "../../identity/identity_file.ts";
import { exportPrivateKey, generateKeyPair } from "../../identity/key_pair.ts";
import {
  type NetworkDocument,
  toNodeNetwork,
  verifyNetworkDocument,
} from "../../identity/network_document.ts";
import type { Certified } from "./controller_answer.ts";

/** What to renew, and how. */
export interface Renewal {
  /** The identity file. */
  readonly path: string;
  readonly current: Identity;
  /** Gets a certificate for a signing request, and the network document of now. */
  readonly request: (csr: string) => Promise<Certified>;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** Renews; nothing changes unless all of it succeeds. */
export async function renewIdentity({ path, current, request, now }: Renewal): Promise<Identity> {
  const keys = await generateKeyPair();
  const { certificate, network: jws } = await request(await makeCsr(keys, current.id.uri));
  const privateKeyPem = await exportPrivateKey(keys.privateKey);
  const document = await readNetwork(jws, current);
  return await updateIdentityFile(path, (stored) => {
    const isNews = document !== undefined && isNewer(document, stored);
    return {
      certificatePem: certificate,
      privateKeyPem,
      ...(isNews ? { ...trustOf(document, stored), network: toNodeNetwork(document) } : {}),
    };
  }, { now: now() });
}

/** The document, verified; undefined when it is older than what is known, as of a controller that lags behind. */
async function readNetwork(jws: string, { trust, network }: Identity): Promise<NetworkDocument | undefined> {
  try {
    return await verifyNetworkDocument(jws, {
      authorities: trust.authorities,
      trustDomain: trust.domain,
      ...(network === undefined ? {} : { minRev: network.rev, minIat: network.iat }),
    });
  } catch (error) {
    if (error instanceof IdentityError && error.code === "ERR_NETWORK_DOCUMENT_OUTDATED") return undefined;
    throw error;
  }
}

/** What is in the file may have become newer while the controller was asked. */
function isNewer(document: NetworkDocument, { network }: Identity): boolean {
  if (network === undefined || document.rev > network.rev) return true;
  return document.rev === network.rev && document.iat >= network.iat;
}

function trustOf({ roots, authorities }: NetworkDocument, { trust }: Identity): Pick<Identity, "trust"> {
  return { trust: { ...trust, roots, authorities } };
}
