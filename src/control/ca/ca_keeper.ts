/**
 * The network's CA as a running controller holds it: issues certificates, says which CAs are trusted, and follows its
 * directory when somebody replaces the CA there.
 */

import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { type Authority, loadAuthority } from "../../identity/authority.ts";
import { caPaths, openCaDirectory } from "../../identity/ca_directory.ts";
import { caFingerprint, readCaSet } from "../../identity/ca_rollover.ts";
import { parseCertificatesPem } from "../../identity/certificate.ts";
import { IdentityError } from "../../identity/errors.ts";
import { formatIdentity } from "../../identity/identity_file.ts";
import { exportPrivateKey, generateKeyPair } from "../../identity/key_pair.ts";
import { type CaBundle, issueCertificate } from "../../identity/pki.ts";
import type { IdentityKind } from "../../identity/spiffe_id.ts";

/** For whom to issue. */
export interface CertificateSubject {
  readonly kind: IdentityKind;
  readonly name: string;
  /** Milliseconds; less when the CA itself ends before. */
  readonly life: number;
  /** Only for controllers: further DNS names and IP addresses. */
  readonly names?: readonly string[];
}

/** A certificate that was issued, with what the store keeps of it. */
export interface IssuedByKeeper {
  readonly spiffeId: string;
  /** PEM. */
  readonly certificate: string;
  /** Upper-case hexadecimal. */
  readonly serial: string;
  /** Milliseconds since the epoch. */
  readonly issuedAt: number;
  readonly notAfter: number;
  /** Fingerprint of the CA that signed it. */
  readonly issuer: string;
}

/** What a keeper needs. */
export interface CaKeeperOptions {
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** The directory as it was read last. */
interface Held {
  readonly ca: CaBundle;
  readonly authority: Authority;
  readonly issuer: string;
  readonly staged: string | undefined;
  readonly roots: readonly { readonly pem: string; readonly notAfter: number }[];
}

const DAY_MILLISECONDS = 24 * 60 * 60_000;

/** The CA of one directory. */
export class CaKeeper {
  readonly #directory: string;
  readonly #options: CaKeeperOptions;
  #held: Held;
  #lastFault = "";

  private constructor(directory: string, options: CaKeeperOptions, held: Held) {
    this.#directory = directory;
    this.#options = options;
    this.#held = held;
  }

  /** Opens a CA directory, whose keys only its owner may be able to read. */
  static async open(directory: string, options: CaKeeperOptions): Promise<CaKeeper> {
    return new CaKeeper(directory, options, await read(directory));
  }

  get trustDomain(): string {
    return this.#held.ca.trustDomain;
  }

  /** The key that signs views, tokens and network documents. */
  get authority(): Authority {
    return this.#held.authority;
  }

  /** Fingerprint of the CA that issues. */
  get issuer(): string {
    return this.#held.issuer;
  }

  /** Fingerprint of the CA that will issue next, while there is one. */
  get nextIssuer(): string | undefined {
    return this.#held.staged;
  }

  /** The certificate of the CA that issues, PEM: a controller's TLS chain ends with it, for the first contact. */
  get issuingCertificate(): string {
    return this.#held.ca.certificatePem;
  }

  /** All trusted CA certificates, PEM, the one that issues first. */
  roots(): readonly string[] {
    const now = this.#options.now();
    return this.#held.roots.filter(({ notAfter }, index) => index === 0 || notAfter > now).map(({ pem }) =>
      pem
    );
  }

  /** Certifies a key. */
  async issue(publicKey: CryptoKey, subject: CertificateSubject): Promise<IssuedByKeeper> {
    const { kind, name, life, names } = subject;
    const { ca, issuer } = this.#held;
    const issuedAt = this.#options.now();
    const days = Math.min(life, ca.notAfter - issuedAt) / DAY_MILLISECONDS;
    if (days <= 0) {
      throw new IdentityError("ERR_CA_LIFETIME", "Cannot issue: the CA itself has ended", {
        hint: "Replace it with: ginnel ca rotate",
      });
    }
    const { id, certificatePem, serial, notAfter } = await issueCertificate(ca, {
      kind,
      name,
      now: issuedAt,
      days,
      publicKey,
      ...(names === undefined ? {} : { names }),
    });
    return { spiffeId: id.uri, certificate: certificatePem, serial, issuedAt, notAfter, issuer };
  }

  /** Makes a whole identity, key included, for what runs beside the CA; `text` is that of an identity file. */
  async makeIdentity(subject: CertificateSubject): Promise<IssuedByKeeper & { readonly text: string }> {
    const keys = await generateKeyPair();
    const issued = await this.issue(keys.publicKey, subject);
    const { trustDomain } = this.#held.ca;
    const text = formatIdentity({
      id: { trustDomain, kind: subject.kind, name: subject.name, uri: issued.spiffeId },
      certificatePem: issued.certificate,
      privateKeyPem: await exportPrivateKey(keys.privateKey),
      trust: { domain: trustDomain, roots: this.roots(), authorities: [this.authority.publicJwk] },
    });
    return { ...issued, text };
  }

  /** Reads the directory again; true when another CA issues, or others are trusted. What cannot be used is left. */
  async reload(): Promise<boolean> {
    const { logger } = this.#options;
    const before = this.#held;
    try {
      const held = await read(this.#directory);
      if (held.ca.trustDomain !== before.ca.trustDomain) {
        throw new IdentityError("ERR_CERT_TRUST_DOMAIN", "Cannot use the CA: it is of another network");
      }
      this.#held = held;
      this.#lastFault = "";
    } catch (error) {
      // A rollover in progress looks like this for a moment; said once, not at every look.
      const fault = errorMessage(error);
      if (fault !== this.#lastFault) logger.error("ca_not_reloaded", { detail: fault });
      this.#lastFault = fault;
      return false;
    }
    const pems = ({ roots }: Held) => roots.map(({ pem }) => pem).join();
    const isChanged = pems(before) !== pems(this.#held) || before.authority.kid !== this.#held.authority.kid;
    if (isChanged) logger.info("ca_reloaded", { issuer: this.issuer, trusted: this.#held.roots.length });
    return isChanged;
  }

  /** Looks at the directory every so often; returns the way to stop. */
  watch(onChange: () => void, options: { readonly interval?: number } = {}): () => void {
    const { interval = 5_000 } = options;
    let isLooking = false;
    const timer = setInterval(async () => {
      if (isLooking) return;
      isLooking = true;
      if (await this.reload()) onChange();
      isLooking = false;
    }, interval);
    return () => clearInterval(timer);
  }
}

async function read(directory: string): Promise<Held> {
  const { ca } = await openCaDirectory(directory);
  const { issuing, staged, previous } = await readCaSet(directory);
  const trusted = new Map<string, string>();
  for (const pem of [issuing, staged, ...previous]) {
    if (pem !== undefined) trusted.set(caFingerprint(pem), pem);
  }
  return {
    ca,
    authority: await loadAuthority(caPaths(directory).authorityKey),
    issuer: caFingerprint(issuing),
    staged: staged === undefined ? undefined : caFingerprint(staged),
    roots: [...trusted.values()].map((pem) => ({ pem, notAfter: parseCertificatesPem(pem)[0]!.notAfter })),
  };
}
