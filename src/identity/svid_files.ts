/**
 * An identity of a foreign trust domain: an X.509-SVID in the two PEM files that a SPIFFE helper keeps fresh, and a trust
 * file that says which network it is used in. The trust file holds nothing secret.
 */

import type { JWK } from "jose";
import { z } from "zod";
import { AuthorityJwk } from "./authority.ts";
import { parseCertificatesPem } from "./certificate.ts";
import { verifyChain } from "./chain.ts";
import { IdentityError } from "./errors.ts";
import type { Identity, Trust } from "./identity_file.ts";
import {
  MAX_NETWORK_DOCUMENT_LENGTH,
  MAX_TRUSTED,
  type NetworkDocument,
  type NodeNetwork,
  toNodeNetwork,
  verifyNetworkDocument,
} from "./network_document.ts";
import { importPrivateKey } from "./pki.ts";
import { readPublicFile, readSecretFile } from "./secret_file.ts";

/** Paths of the files. */
export interface SvidFiles {
  /** The SVID and its intermediates, PEM. */
  readonly certificate: string;
  /** Its private key, PEM (PKCS#8), readable by its owner only. */
  readonly key: string;
  /** The trust file. */
  readonly network: string;
}

/** What a trust file is made of. */
export interface TrustFileParts {
  readonly trustDomain: string;
  /** Public keys that may sign the network document and views. */
  readonly authorities: readonly JWK[];
  /** The signed network document. */
  readonly network: string;
}

/** A network that a node trusts, as it knows it. */
export type KnownNetwork = Pick<Identity, "trust"> & { readonly network: NodeNetwork };

const TrustFile = z.strictObject({
  version: z.literal(1),
  trustDomain: z.string(),
  authorities: z.array(AuthorityJwk).min(1).max(MAX_TRUSTED),
  network: z.string().max(MAX_NETWORK_DOCUMENT_LENGTH),
});

/** Reads an SVID and what it trusts; a network known to be newer than the trust file's stands for that. */
export async function loadSvid(
  files: SvidFiles,
  options: { readonly now: number; readonly known?: KnownNetwork | undefined },
): Promise<Identity & KnownNetwork> {
  const { now, known } = options;
  const read = await readTrust(files.network);
  const { trust, network } = known !== undefined && isNewer(known.network, read.network) ? known : read;
  const certificatePem = await readPublicFile(files.certificate);
  const privateKeyPem = await readSecretFile(files.key);
  const chain = parseCertificatesPem(certificatePem);
  const privateKey = await importPrivateKey(privateKeyPem, chain[0]!);
  const verified = await verifyChain({
    chain: certificatePem,
    roots: trust.roots,
    trustDomain: trust.domain,
    foreign: trust.foreign,
    now,
  });
  return {
    id: verified.id,
    certificatePem,
    chainDer: chain.map(({ der }) => der),
    privateKeyPem,
    privateKey,
    notAfter: verified.notAfter,
    trust,
    network,
  };
}

/** Writes the text of a trust file. */
export function formatTrustFile(parts: TrustFileParts): string {
  const file: z.input<typeof TrustFile> = {
    version: 1,
    trustDomain: parts.trustDomain,
    authorities: parts.authorities.map((jwk) => AuthorityJwk.parse(jwk)),
    network: parts.network,
  };
  return JSON.stringify(file, undefined, 2) + "\n";
}

/** What a node trusts as of a network document. */
export function trustOfDocument(document: NetworkDocument): Trust {
  const { trustDomain, roots, authorities, trustDomains } = document;
  return {
    domain: trustDomain,
    roots,
    authorities,
    foreign: trustDomains.map(({ name, roots }) => ({ domain: name, roots })),
  };
}

/** Whether the first is of a later revision, or of the same one and made later. */
export function isNewer(
  first: Pick<NodeNetwork, "rev" | "iat">,
  second: Pick<NodeNetwork, "rev" | "iat">,
): boolean {
  return first.rev !== second.rev ? first.rev > second.rev : first.iat > second.iat;
}

async function readTrust(path: string): Promise<KnownNetwork> {
  const file = parseTrustFile(await readPublicFile(path), path);
  const document = await verifyNetworkDocument(file.network, {
    authorities: file.authorities as JWK[],
    trustDomain: file.trustDomain,
  });
  return { trust: trustOfDocument(document), network: toNodeNetwork(document) };
}

function parseTrustFile(text: string, path: string): z.output<typeof TrustFile> {
  try {
    return TrustFile.parse(JSON.parse(text));
  } catch (cause) {
    throw new IdentityError("ERR_IDENTITY_FILE_CORRUPT", `Cannot use ${path}: it is not a trust file`, {
      cause,
      hint: "Make one with: ginnel identity trust",
    });
  }
}
