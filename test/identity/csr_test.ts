/** Attacks on signing requests: who asks must have the key, of the one kind in use, and ask for nobody else's name. */

import "reflect-metadata";
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  BasicConstraintsExtension,
  type Extension,
  type JsonGeneralNames,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
} from "@peculiar/x509";
import { makeCsr, MAX_CSR_LENGTH, readCsr } from "../../src/identity/csr.ts";
import { generateKeyPair } from "../../src/identity/key_pair.ts";
import { decodePem, encodePem } from "../../src/identity/pem.ts";
import { parseSpiffeId } from "../../src/identity/spiffe_id.ts";
import { generateKeys, rejectsWith } from "./forge.ts";

const ALICE = parseSpiffeId("spiffe://test.internal/agent/alice");
const KEYS = await generateKeyPair();
const ECDSA_SHA256: EcdsaParams = { name: "ECDSA", hash: "SHA-256" };
const GOOD = await makeCsr(KEYS, ALICE.uri);

Deno.test("readCsr() gives the key of a request that makeCsr() made", async () => {
  const { publicKey } = await readCsr(GOOD, ALICE);
  const raw = async (key: CryptoKey) => new Uint8Array(await crypto.subtle.exportKey("raw", key));
  assert.deepEqual(await raw(publicKey), await raw(KEYS.publicKey));
});

Deno.test("[RFC2986-3] readCsr() refuses a request that its key did not sign", async () => {
  const der = decodePem("CERTIFICATE REQUEST", GOOD)[0]!;
  const other = decodePem("CERTIFICATE REQUEST", await makeCsr(await generateKeyPair(), ALICE.uri))[0]!;
  // The signed part of one request with the signature of the other.
  const body = (bytes: Uint8Array) => bytes.subarray(bytes[1] === 0x81 ? 3 : 4);
  const signed = (bytes: Uint8Array) => 3 + bytes[2]!;
  const [one, two] = [body(der), body(other)];
  assert.equal(one[1], 0x81);
  const content = [...one.subarray(0, signed(one)), ...two.subarray(signed(two))];
  await rejectsWith("ERR_CSR_SIGNATURE", () => readCsr(wrap(content), ALICE));
});

Deno.test("readCsr() refuses a request with any one byte of it changed", async () => {
  const der = decodePem("CERTIFICATE REQUEST", GOOD)[0]!;
  for (let index = 0; index < der.length; index += 3) {
    const changed = der.slice();
    changed[index]! ^= 0x01;
    const request = encodePem("CERTIFICATE REQUEST", changed);
    await assert.rejects(() => readCsr(request, ALICE), { name: "IdentityError" }, `byte ${index}`);
  }
});

Deno.test("readCsr() refuses every key but ECDSA P-256 with SHA-256", async () => {
  const rsa = await crypto.subtle.generateKey(
    {
      name: "RSASSA-PKCS1-v1_5",
      modulusLength: 2048,
      publicExponent: new Uint8Array([1, 0, 1]),
      hash: "SHA-256",
    },
    true,
    ["sign", "verify"],
  );
  const requests = [
    await generate({ keys: rsa, algorithm: { name: "RSASSA-PKCS1-v1_5" } }),
    await generate({ keys: await generateKeys("P-384"), algorithm: { name: "ECDSA", hash: "SHA-384" } }),
    await generate({ keys: KEYS, algorithm: { name: "ECDSA", hash: "SHA-384" } }),
  ];
  for (const request of requests) await rejectsWith("ERR_CSR_KEY_TYPE", () => readCsr(request, ALICE));
});

Deno.test("readCsr() refuses a request for another name, and for any name besides its own", async () => {
  const own = { type: "url" as const, value: ALICE.uri };
  const wrong: readonly { readonly name?: string; readonly names?: JsonGeneralNames }[] = [
    { names: [{ type: "url", value: "spiffe://test.internal/agent/bob" }] },
    { names: [{ type: "url", value: "spiffe://test.internal/relay/alice" }] },
    { names: [own, { type: "url", value: "spiffe://test.internal/agent/bob" }] },
    { names: [own, { type: "dns", value: "relay-1.relay.ginnel.internal" }] },
    { names: [own, { type: "ip", value: "127.0.0.1" }] },
    { name: "CN=bob", names: [own] },
    { name: "CN=alice, CN=bob" },
    { name: "O=Ginnel relay" },
  ];
  for (const options of wrong) {
    const request = await generate(options);
    await rejectsWith("ERR_CSR_NAME", () => readCsr(request, ALICE));
  }
});

Deno.test("readCsr() accepts requests without a name or with the right one, as other software makes them", async () => {
  for (const options of [{}, { name: "CN=alice" }]) await readCsr(await generate(options), ALICE);
  // What else a request asks for is the CA's to decide.
  await readCsr(await generate({ extensions: [new BasicConstraintsExtension(true)] }), ALICE);
});

Deno.test("readCsr() refuses an oversize request before it looks at it, several at once, and bytes behind", async () => {
  await rejectsWith("ERR_CSR_TOO_LARGE", () => readCsr("x".repeat(MAX_CSR_LENGTH + 1), ALICE));
  await rejectsWith("ERR_CSR_MALFORMED", () => readCsr(GOOD + GOOD, ALICE));
  const der = decodePem("CERTIFICATE REQUEST", GOOD)[0]!;
  const longer = encodePem("CERTIFICATE REQUEST", new Uint8Array([...der, 0, 0]));
  await rejectsWith("ERR_CSR_MALFORMED", () => readCsr(longer, ALICE));
});

Deno.test("readCsr() answers any text and any bytes with an IdentityError", async () => {
  const anything = fc.oneof(
    fc.string(),
    fc.uint8Array({ maxLength: 200 }).map((bytes) => encodePem("CERTIFICATE REQUEST", bytes)),
    fc.nat(GOOD.length).map((length) => GOOD.slice(0, length)),
  );
  await fc.assert(fc.asyncProperty(anything, async (text) => {
    if (text.trim() === GOOD.trim()) return;
    await assert.rejects(() => readCsr(text, ALICE), { name: "IdentityError" });
  }));
});

async function generate(
  options: {
    readonly keys?: CryptoKeyPair;
    readonly algorithm?: EcdsaParams | Algorithm;
    readonly name?: string;
    readonly names?: JsonGeneralNames;
    readonly extensions?: readonly Extension[];
  },
): Promise<string> {
  const { keys = KEYS, algorithm = ECDSA_SHA256, name, names, extensions = [] } = options;
  const request = await Pkcs10CertificateRequestGenerator.create({
    ...(name === undefined ? {} : { name }),
    keys,
    signingAlgorithm: algorithm,
    extensions: [...extensions, ...(names === undefined ? [] : [new SubjectAlternativeNameExtension(names)])],
  });
  return encodePem("CERTIFICATE REQUEST", new Uint8Array(request.rawData));
}

function wrap(content: readonly number[]): string {
  const { length } = content;
  const head = length < 256 ? [0x30, 0x81, length] : [0x30, 0x82, length >> 8, length & 0xff];
  return encodePem("CERTIFICATE REQUEST", new Uint8Array([...head, ...content]));
}
