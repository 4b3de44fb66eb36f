/**
 * The offline certificate authority: makes a network's CA and issues SPIFFE certificates (ECDSA P-256).
 */

import "reflect-metadata";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  type JsonGeneralNames,
  KeyUsagesExtension,
  type Name,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { createPrivateKey } from "node:crypto";
import { toHex } from "../base/bytes.ts";
import { formatIp, parseIp } from "../base/ip.ts";
import { type Certificate, KEY_USAGE, parseCertificatesPem } from "./certificate.ts";
import { IdentityError } from "./errors.ts";
import { exportPrivateKey, generateKeyPair, KEY_ALGORITHM } from "./key_pair.ts";
import { decodePem, encodePem } from "./pem.ts";
import {
  type IdentityKind,
  isServerKind,
  makeSpiffeId,
  parseTrustDomainUri,
  SERVER_NAME_SUFFIX,
  serverName,
  type SpiffeId,
  trustDomainUri,
} from "./spiffe_id.ts";

/** A certificate authority with its private key. */
export interface CaBundle {
  readonly trustDomain: string;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  readonly privateKey: CryptoKey;
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
}

/** A freshly issued certificate, with its private key if the CA generated it. */
export interface IssuedCertificate {
  readonly id: SpiffeId;
  /** Upper-case hexadecimal. */
  readonly serial: string;
  readonly certificatePem: string;
  readonly privateKeyPem: string | undefined;
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
}

/** What to issue; without `publicKey` a key pair is generated. */
export interface IssueOptions {
  readonly kind: IdentityKind;
  readonly name: string;
  readonly now: number;
  /** Fractions are fine. */
  readonly days: number;
  readonly publicKey?: CryptoKey;
  /** Only for controllers: further names by which browsers and programs outside the network reach them. */
  readonly names?: readonly string[];
}

/** Certificates start this long before they are made, so that a node whose clock is behind accepts them. */
export const BACKDATE_MILLISECONDS = 5 * 60_000;

/** Longest life that can be asked for, in days. */
export const MAX_DAYS = 36_500;

const DAY_MILLISECONDS = 24 * 60 * 60_000;
const ECDSA_SHA256 = { name: "ECDSA", hash: "SHA-256" };

/** Room for one intermediate: an online controller may later issue under this CA. */
const CA_PATH_LENGTH = 1;

/** RFC 5280 upper bound of a name attribute, in characters. */
const MAX_NAME_ATTRIBUTE = 64;

/** Makes a self-signed CA for one trust domain. */
export async function createCa(
  options: { readonly trustDomain: string; readonly now: number; readonly days: number },
): Promise<CaBundle> {
  const { trustDomain, now, days } = options;
  const uri = trustDomainUri(trustDomain);
  const keys = await generateKeyPair();
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: randomSerial(),
    name: [{ CN: [trustDomain.slice(0, MAX_NAME_ATTRIBUTE)] }, { O: ["Ginnel CA"] }],
    ...validity({ now, days }),
    keys,
    signingAlgorithm: ECDSA_SHA256,
    extensions: [
      new BasicConstraintsExtension(true, CA_PATH_LENGTH, true),
      new KeyUsagesExtension(KEY_USAGE.certSign | KEY_USAGE.crlSign, true),
      new SubjectAlternativeNameExtension([{ type: "url", value: uri }]),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return await parseCa({
    certificatePem: certificatePem(certificate),
    privateKeyPem: await exportPrivateKey(keys.privateKey),
  });
}

/** Reads a CA back from its two PEM texts and checks that they belong together. */
export async function parseCa(
  pems: { readonly certificatePem: string; readonly privateKeyPem: string },
): Promise<CaBundle> {
  const certificate = parseCertificatesPem(pems.certificatePem)[0]!;
  const uri = certificate.uriNames[0];
  if (!certificate.isCa || uri === undefined) {
    throw new IdentityError(
      "ERR_IDENTITY_FILE_CORRUPT",
      "Cannot use the CA: its certificate is not a CA of a network",
    );
  }
  const privateKey = await importPrivateKey(pems.privateKeyPem, certificate);
  return {
    trustDomain: parseTrustDomainUri(uri),
    certificatePem: pems.certificatePem,
    privateKeyPem: pems.privateKeyPem,
    privateKey,
    notAfter: certificate.notAfter,
  };
}

/** Issues a certificate signed by `ca`; a server's also carries its TLS server name. */
export async function issueCertificate(ca: CaBundle, options: IssueOptions): Promise<IssuedCertificate> {
  const { kind, name, now, days } = options;
  const id = makeSpiffeId({ trustDomain: ca.trustDomain, kind, name });
  const life = validity({ now, days });
  if (life.notAfter.getTime() > ca.notAfter) {
    throw new IdentityError(
      "ERR_CA_LIFETIME",
      `Cannot issue for ${days} days: the CA itself ends before that`,
      {
        hint: `Ask for a life that ends before ${new Date(ca.notAfter).toISOString()}`,
      },
    );
  }
  const keys = options.publicKey === undefined ? await generateKeyPair() : undefined;
  const publicKey = options.publicKey ?? keys!.publicKey;
  const issuer = issuerOf(ca);
  const certificate = await X509CertificateGenerator.create({
    serialNumber: randomSerial(),
    subject: [{ CN: [name] }, { O: [`Ginnel ${kind}`] }],
    issuer: issuer.name,
    ...life,
    publicKey,
    signingKey: ca.privateKey,
    signingAlgorithm: ECDSA_SHA256,
    extensions: await leafExtensions(id, {
      publicKey,
      issuerKeyIdentifier: await issuer.keyIdentifier,
      names: extraNames(options),
    }),
  });
  return {
    id,
    serial: certificate.serialNumber.toUpperCase(),
    certificatePem: certificatePem(certificate),
    privateKeyPem: keys === undefined ? undefined : await exportPrivateKey(keys.privateKey),
    notAfter: certificate.notAfter.getTime(),
  };
}

/** Imports a PKCS#8 PEM key, not extractable, after checking that it is the certificate's. */
export async function importPrivateKey(pem: string, certificate: Certificate): Promise<CryptoKey> {
  let key: CryptoKey;
  let matches: boolean;
  try {
    const der = decodePem("PRIVATE KEY", pem)[0]!;
    key = await crypto.subtle.importKey("pkcs8", der, KEY_ALGORITHM, false, ["sign"]);
    matches = certificate.platform.checkPrivateKey(createPrivateKey(pem));
  } catch {
    // The cause is dropped on purpose: a parser's message may quote the key.
    throw new IdentityError(
      "ERR_IDENTITY_FILE_CORRUPT",
      "Cannot read the private key: it is not PKCS#8 PEM of ECDSA P-256",
    );
  }
  if (!matches) {
    throw new IdentityError(
      "ERR_IDENTITY_KEY_MISMATCH",
      "Cannot use the private key: it is not the certificate's",
    );
  }
  return key;
}

/** What all certificates of one CA have in common. Reading its certificate costs more than all else in issuing one. */
const ISSUERS = new WeakMap<CaBundle, Issuer>();

interface Issuer {
  readonly name: Name;
  readonly keyIdentifier: Promise<Extension>;
}

function issuerOf(ca: CaBundle): Issuer {
  const known = ISSUERS.get(ca);
  if (known !== undefined) return known;
  const certificate = parseCertificatesPem(ca.certificatePem)[0]!;
  const issuer = {
    name: certificate.parsed.subjectName,
    keyIdentifier: certificate.publicKey().then((key) => AuthorityKeyIdentifierExtension.create(key)),
  };
  ISSUERS.set(ca, issuer);
  return issuer;
}

/** A name under the network's own suffix would let its bearer pose as another server of the network. */
function extraNames({ kind, names = [] }: IssueOptions): JsonGeneralNames {
  const isTaken = (name: string) => `.${name.toLowerCase()}`.endsWith(SERVER_NAME_SUFFIX);
  if (names.length > 0 && (kind !== "controller" || names.some(isTaken))) {
    throw new RangeError(
      "Cannot issue these names: only a controller has some, and none of the network's own",
    );
  }
  return names.map((name) => {
    const address = parseIp(name);
    return address === undefined ? { type: "dns", value: name } : { type: "ip", value: formatIp(address) };
  });
}

async function leafExtensions(
  id: SpiffeId,
  options: {
    readonly publicKey: CryptoKey;
    readonly issuerKeyIdentifier: Extension;
    readonly names: JsonGeneralNames;
  },
): Promise<Extension[]> {
  const own: JsonGeneralNames = [{ type: "url", value: id.uri }];
  if (isServerKind(id.kind)) own.push({ type: "dns", value: serverName(id.kind, id.name) });
  return [
    new BasicConstraintsExtension(false, undefined, true),
    new KeyUsagesExtension(KEY_USAGE.digitalSignature, true),
    new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth]),
    new SubjectAlternativeNameExtension([...own, ...options.names]),
    await SubjectKeyIdentifierExtension.create(options.publicKey),
    options.issuerKeyIdentifier,
  ];
}

function validity(
  options: { readonly now: number; readonly days: number },
): { notBefore: Date; notAfter: Date } {
  const { now, days } = options;
  if (!(days > 0 && days <= MAX_DAYS)) {
    throw new RangeError(`Cannot issue for ${days} days: it must be more than 0 and at most ${MAX_DAYS}`);
  }
  return {
    notBefore: new Date(now - BACKDATE_MILLISECONDS),
    notAfter: new Date(now + days * DAY_MILLISECONDS),
  };
}

function certificatePem(certificate: X509Certificate): string {
  return encodePem("CERTIFICATE", new Uint8Array(certificate.rawData));
}

/** 16 random bytes with the first between 0x40 and 0x7f: positive, never shortened, as RFC 5280 §4.1.2.2 asks. */
function randomSerial(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return toHex(bytes);
}
