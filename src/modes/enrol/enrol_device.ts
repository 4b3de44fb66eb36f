/** Turns an enrolment token into an identity file. The private key is made here and never leaves the file. */

import { errorMessage } from "../../base/errors.ts";
import { caFingerprint } from "../../identity/ca_rollover.ts";
import { makeCsr } from "../../identity/csr.ts";
import {
  type EnrolmentTokenFacts,
  readEnrolmentToken,
  verifyEnrolmentToken,
} from "../../identity/enrolment_token.ts";
import { IdentityError } from "../../identity/errors.ts";
import { formatIdentity, type Identity, parseIdentity } from "../../identity/identity_file.ts";
import { exportPrivateKey, generateKeyPair } from "../../identity/key_pair.ts";
import { introduceNetworkDocument, toNodeNetwork } from "../../identity/network_document.ts";
import { writeSecretFile } from "../../identity/secret_file.ts";
import { fetchPinnedCa } from "../../io/controller/first_contact.ts";
import { ControllerHttp } from "../../io/controller/https_client.ts";
import { type Certified, readCertified } from "./controller_answer.ts";

/** How to enrol. */
export interface EnrolDeviceOptions {
  /** One-time: it is used up once the controller answers with a certificate. */
  readonly token: string;
  /** The identity file to write. */
  readonly path: string;
  /** Replace an existing file once the new identity is there; default: keep it and use nothing up. */
  readonly replace?: boolean;
  readonly signal?: AbortSignal;
  /** Milliseconds since the epoch; default `Date.now`. */
  readonly now?: () => number;
}

/** Enrols; throws a `GinnelError` that says what to do, and then leaves no file. */
export async function enrolDevice(options: EnrolDeviceOptions): Promise<Identity> {
  const { token, path, replace = false, signal, now = Date.now } = options;
  const facts = readEnrolmentToken(token, { now: now() });
  // The name is taken first: a token must not be used up for a file that then cannot be written.
  if (!replace) await writeSecretFile(path, "");
  try {
    const controllers = facts.claims.ctl;
    const fingerprints = [facts.claims.ca, facts.claims.caNext].filter((value) => value !== undefined);
    const stop = signal === undefined ? {} : { signal };
    const root = await fetchPinnedCa({ controllers, fingerprints, ...stop });
    using http = new ControllerHttp({ controllers: () => controllers, roots: () => [root] });
    const keys = await generateKeyPair();
    const csr = await makeCsr(keys, facts.id.uri);
    const request = { method: "POST", path: "/enrolment/v1/enrol", json: { token, csr }, ...stop } as const;
    const certified = readCertified(await http.request(request));
    const text = await composeIdentity(certified, { facts, keys, token, root, now: now() });
    const identity = await parseIdentity(text, { source: path, now: now() });
    await writeSecretFile(path, text, { replace: true });
    return identity;
  } catch (error) {
    if (!replace) await removeQuietly(path);
    throw error;
  }
}

async function composeIdentity(
  { certificate, network: jws }: Certified,
  known: {
    readonly facts: EnrolmentTokenFacts;
    readonly keys: CryptoKeyPair;
    readonly token: string;
    readonly root: string;
    readonly now: number;
  },
): Promise<string> {
  const { facts: { id }, keys, token, root, now } = known;
  const { trustDomain } = id;
  const network = await introduceNetworkDocument(jws, { trustDomain });
  // Whoever signed the token, which came another way, must be who signs from now on.
  const { claims } = await verifyEnrolmentToken(token, {
    authorities: network.authorities,
    trustDomain,
    issuers: [known.facts.claims.iss],
    now,
  });
  const pinned = caFingerprint(root);
  if (
    ![claims.ca, claims.caNext].includes(pinned) ||
    !network.roots.some((pem) => caFingerprint(pem) === pinned)
  ) {
    throw new IdentityError(
      "ERR_CERT_UNTRUSTED",
      "Cannot enrol: the network does not trust the CA of its token",
      {
        hint: "Ask the administrator for a new token",
      },
    );
  }
  return formatIdentity({
    id,
    certificatePem: certificate,
    privateKeyPem: await exportPrivateKey(keys.privateKey),
    trust: { domain: trustDomain, roots: network.roots, authorities: network.authorities },
    network: toNodeNetwork(network),
  });
}

async function removeQuietly(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) {
      throw new IdentityError(
        "ERR_IDENTITY_FILE_UNWRITABLE",
        `Cannot remove ${path}: ${errorMessage(error)}`,
      );
    }
  }
}
