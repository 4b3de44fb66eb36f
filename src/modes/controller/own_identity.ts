/** The certificate of a server that lives beside the CA, a controller or the relay it is embedded in: made, kept, renewed. */

import { errorMessage } from "../../base/errors.ts";
import { formatIp, parseIp } from "../../base/ip.ts";
import type { Logger } from "../../base/log.ts";
import type { CaKeeper } from "../../control/ca/ca_keeper.ts";
import type { Store } from "../../control/store.ts";
import type { IdentitySpec } from "../../core/network/resources.ts";
import { parseCertificatesPem } from "../../identity/certificate.ts";
import { type Identity, parseIdentity } from "../../identity/identity_file.ts";
import { readSecretFile, writeSecretFile } from "../../identity/secret_file.ts";
import { makeSpiffeId } from "../../identity/spiffe_id.ts";

/** Whose certificate, and where it is kept. */
export interface OwnIdentityOptions {
  readonly ca: CaKeeper;
  readonly store: Store;
  readonly kind: "relay" | "controller";
  readonly name: string;
  /** The identity file. */
  readonly path: string;
  /** Milliseconds. */
  readonly life: number;
  /** Further names in the certificate, of a controller. */
  readonly names?: readonly string[];
  /** `host:port` that nodes are told, of a relay. */
  readonly address?: string;
  readonly logger: Logger;
  readonly onRenewed: (identity: Identity) => void;
}

/** A certificate is renewed when this share of its life is over. */
const RENEW_AFTER = 2 / 3;

/** Milliseconds between looks at the certificate. */
const MAX_CHECK_MS = 60_000;

/** Keeps one server's certificate fresh. */
export class OwnIdentity implements Disposable {
  readonly #options: OwnIdentityOptions;
  readonly #timer: ReturnType<typeof setInterval>;
  #identity: Identity;
  #renewing: Promise<void> | undefined;

  /** Reads the identity file, or makes one where there is none that can be used. */
  static async open(options: OwnIdentityOptions): Promise<OwnIdentity> {
    await declare(options);
    const identity = await readUsable(options) ?? await make(options);
    return new OwnIdentity(options, identity);
  }

  private constructor(options: OwnIdentityOptions, identity: Identity) {
    this.#options = options;
    this.#identity = identity;
    const interval = Math.min(MAX_CHECK_MS, Math.max(1_000, options.life / 20));
    this.#timer = setInterval(() => void this.refresh(), interval);
  }

  get identity(): Identity {
    return this.#identity;
  }

  /** Renews the certificate if it is time, or if another CA issues now. */
  refresh(): Promise<void> {
    return this.#renewing ??= this.#renewIfDue().finally(() => this.#renewing = undefined);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  async #renewIfDue(): Promise<void> {
    const { logger, onRenewed, ca } = this.#options;
    if (!isDue(this.#identity, this.#options)) return;
    try {
      this.#identity = await make(this.#options);
    } catch (error) {
      logger.error("certificate_not_renewed", {
        identity: this.#identity.id.uri,
        detail: errorMessage(error),
      });
      return;
    }
    const notAfter = new Date(this.#identity.notAfter).toISOString();
    logger.info("certificate_renewed", { identity: this.#identity.id.uri, notAfter, issuer: ca.issuer });
    onRenewed(this.#identity);
  }
}

function isDue(identity: Identity, { ca, life, names = [] }: OwnIdentityOptions): boolean {
  const [leaf] = parseCertificatesPem(identity.certificatePem);
  const { notBefore, notAfter } = leaf!;
  if (Date.now() > notAfter - Math.min(notAfter - notBefore, life) * (1 - RENEW_AFTER)) return true;
  const issuing = parseCertificatesPem(ca.issuingCertificate)[0]!;
  if (leaf!.issuer !== issuing.subject || !leaf!.platform.verify(issuing.platform.publicKey)) return true;
  if (identity.trust.roots.join() !== ca.roots().join()) return true;
  const known = new Set(leaf!.serverNames);
  return names.some((name) => !known.has(canonical(name)));
}

/** A name as a certificate spells it: an IPv6 address has many spellings. */
function canonical(name: string): string {
  const address = parseIp(name);
  return address === undefined ? name : formatIp(address);
}

async function readUsable(options: OwnIdentityOptions): Promise<Identity | undefined> {
  const { path, kind, name, ca, logger } = options;
  const { uri } = makeSpiffeId({ trustDomain: ca.trustDomain, kind, name });
  try {
    const identity = await parseIdentity(await readSecretFile(path), { source: path, now: Date.now() });
    return identity.id.uri === uri && !isDue(identity, options) ? identity : undefined;
  } catch (error) {
    // Whatever is wrong with it: the CA is here to make another.
    logger.info("identity_made_anew", { path, detail: errorMessage(error) });
    return undefined;
  }
}

async function make(options: OwnIdentityOptions): Promise<Identity> {
  const { ca, store, kind, name, life, names, path } = options;
  const made = await ca.makeIdentity({ kind, name, life, ...(names === undefined ? {} : { names }) });
  const { spiffeId, serial, issuedAt, notAfter, issuer, text } = made;
  await store.transaction(async (tx) => {
    const resource = await tx.find("identity", spiffeId);
    if (resource === undefined) return;
    const identityId = resource.id;
    await tx.addCertificate({ serial, identityId, spiffeId, issuedAt, notAfter, issuer, revokedAt: null });
  });
  await writeSecretFile(path, text, { replace: true });
  return await parseIdentity(text, { source: path, now: Date.now() });
}

/** Makes sure that the network knows the server, at the address it has now. */
async function declare({ store, ca, kind, name, address }: OwnIdentityOptions): Promise<void> {
  const spiffeId = makeSpiffeId({ trustDomain: ca.trustDomain, kind, name }).uri;
  await store.transaction(async (tx) => {
    const known = await tx.find("identity", spiffeId);
    if (known === undefined) {
      const spec: IdentitySpec = { ...NEW_SERVER, type: kind, spiffeId, address: address ?? null };
      await tx.create("identity", { name, spec });
    } else if (address !== undefined && known.spec.address !== address) {
      await tx.update("identity", known.id, { spec: { ...known.spec, address } });
    }
  });
}

const NEW_SERVER = {
  roleAttributes: [],
  derivedAttributes: [],
  disabled: false,
  adminRole: null,
  origin: "enrolment",
  externalId: null,
  tags: {},
} as const;
