/** Files with others' CA certificates: what companies have in them, and what must not pass for a CA. */

import assert from "node:assert/strict";
import "reflect-metadata";
import { BasicConstraintsExtension, X509CertificateGenerator } from "@peculiar/x509";
import { readCaFile } from "../../src/identity/ca_file.ts";
import { decodePem, encodePem } from "../../src/identity/pem.ts";

const RSA = {
  name: "RSASSA-PKCS1-v1_5",
  hash: "SHA-256",
  modulusLength: 2048,
  publicExponent: new Uint8Array([1, 0, 1]),
};
const P384 = { name: "ECDSA", namedCurve: "P-384", hash: "SHA-384" };
const CA = await certificate(RSA, { isCa: true });
const OTHER = await certificate(P384, { isCa: true });
const LEAF = await certificate(P384, { isCa: false });

for (
  const [what, text] of Object.entries({
    "an empty file": "",
    "text": "no certificate\n",
    "a leaf": LEAF,
    "a leaf beside a CA": CA + LEAF,
    "a private key": encodePem("PRIVATE KEY", new Uint8Array([0x30, 0])),
    "a private key beside a CA": CA + encodePem("PRIVATE KEY", new Uint8Array([0x30, 0])),
    "half a certificate": CA.slice(0, CA.length / 2),
    "a broken certificate": encodePem("CERTIFICATE", decodePem("CERTIFICATE", CA)[0]!.subarray(0, 200)),
  })
) {
  Deno.test(`readCaFile() refuses ${what}`, async () => {
    await assert.rejects(() => read(text), { code: "ERR_CA_FILE" });
  });
}

Deno.test("readCaFile() reads each certificate of a bundle, with any key and any words in between", async () => {
  assert.deepEqual(await read(`# Company root\n${CA}\n# Another\r\n${OTHER.replaceAll("\n", "\r\n")}`), [
    CA,
    OTHER,
  ]);
});

async function read(text: string): Promise<readonly string[]> {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(path, text);
    return await readCaFile(path);
  } finally {
    await Deno.remove(path);
  }
}

async function certificate(
  algorithm: RsaHashedKeyGenParams | (EcKeyGenParams & { readonly hash: string }),
  { isCa }: { readonly isCa: boolean },
): Promise<string> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const made = await X509CertificateGenerator.createSelfSigned({
    name: "CN=Company",
    keys: keys as CryptoKeyPair,
    signingAlgorithm: algorithm,
    extensions: [new BasicConstraintsExtension(isCa, undefined, true)],
  });
  return encodePem("CERTIFICATE", new Uint8Array(made.rawData));
}
