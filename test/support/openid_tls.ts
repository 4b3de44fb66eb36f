/** A certificate for a DNS name under a root of its own, as a provider on the Internet has. */

import "reflect-metadata";
import {
  BasicConstraintsExtension,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";
import { encodePem } from "../../src/identity/pem.ts";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const DAY = 86_400_000;

/** Makes key and certificate for `name`, PEM, and the root that vouches for it. */
export async function makeTlsFiles(
  name: string,
): Promise<{ readonly key: string; readonly cert: string; readonly root: string }> {
  const life = { notBefore: new Date(Date.now() - DAY), notAfter: new Date(Date.now() + DAY) };
  const rootKeys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
  const root = await X509CertificateGenerator.createSelfSigned({
    serialNumber: "01",
    name: "CN=Test root",
    ...life,
    keys: rootKeys,
    signingAlgorithm: ALGORITHM,
    extensions: [new BasicConstraintsExtension(true, 0, true)],
  });
  const certificate = await X509CertificateGenerator.create({
    serialNumber: "02",
    subject: `CN=${name}`,
    issuer: root.subject,
    ...life,
    publicKey: keys.publicKey,
    signingKey: rootKeys.privateKey,
    signingAlgorithm: ALGORITHM,
    extensions: [new SubjectAlternativeNameExtension([{ type: "dns", value: name }])],
  });
  return {
    key: encodePem("PRIVATE KEY", new Uint8Array(await crypto.subtle.exportKey("pkcs8", keys.privateKey))),
    cert: encodePem("CERTIFICATE", new Uint8Array(certificate.rawData)),
    root: encodePem("CERTIFICATE", new Uint8Array(root.rawData)),
  };
}
