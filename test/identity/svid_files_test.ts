/** An SVID's files: what is refused before anything uses it. How they are followed: `modes/shared/identity_source_test.ts`. */

import assert from "node:assert/strict";
import { writeSecretFile } from "../../src/identity/secret_file.ts";
import { formatTrustFile, isNewer, loadSvid, trustOfDocument } from "../../src/identity/svid_files.ts";
import {
  type NetworkDocument,
  signNetworkDocument,
  toNodeNetwork,
} from "../../src/identity/network_document.ts";
import { encodePem } from "../../src/identity/pem.ts";
import { createTestNetwork, DOMAIN, forge, generateKeys, NOW, rejectsWith } from "./forge.ts";

const NETWORK = await createTestNetwork();
const PARTNER = await forge({
  subject: "CN=Partner",
  ca: true,
  names: [{ type: "url", value: "spiffe://partner.example" }],
});
const URI = "spiffe://partner.example/ns/prod/sa/billing";
const LEAF = await forge({ issuer: PARTNER, names: [{ type: "url", value: URI }] });
const DOCUMENT: NetworkDocument = {
  rev: 3,
  iat: NOW / 1_000,
  trustDomain: DOMAIN,
  roots: [NETWORK.ca.certificatePem],
  authorities: [NETWORK.authority.publicJwk],
  controllers: [],
  relays: [{ name: "relay-1", address: "relay.example:4433" }],
  trustDomains: [{ name: "partner.example", roots: [PARTNER.pem] }],
  revoked: [],
};

Deno.test("loadSvid() refuses another key, a readable key, no trust file, and an SVID out of its time", () =>
  withFiles(async (files) => {
    const { privateKey } = await generateKeys();
    await writeSecretFile(files.key, await keyPem(privateKey), { replace: true });
    await rejectsWith("ERR_IDENTITY_KEY_MISMATCH", () => loadSvid(files, { now: NOW }));
    await writeSecretFile(files.key, await keyPem(LEAF.keys.privateKey), { replace: true });
    await rejectsWith("ERR_CERT_EXPIRED", () => loadSvid(files, { now: LEAF_END + 1_000 }));
    await Deno.chmod(files.key, 0o640);
    await rejectsWith("ERR_KEY_FILE_READABLE", () => loadSvid(files, { now: NOW }));
    await Deno.chmod(files.key, 0o600);
    for (const text of ["", "{}", `{"version":2}`]) {
      await Deno.writeTextFile(files.network, text);
      await rejectsWith("ERR_IDENTITY_FILE_CORRUPT", () => loadSvid(files, { now: NOW }));
    }
  }));

Deno.test("loadSvid() gives a workload that trusts what the network's document says", () =>
  withFiles(async (files) => {
    const identity = await loadSvid(files, { now: NOW });
    assert.deepEqual([identity.id.kind, identity.id.uri], ["workload", URI]);
    assert.deepEqual(identity.trust, trustOfDocument(DOCUMENT));
    assert.deepEqual(identity.network, toNodeNetwork(DOCUMENT));
  }));

Deno.test("loadSvid() keeps to a newer network than the trust file's, and to no older one", () =>
  withFiles(async (files) => {
    const known = (rev: number) => {
      const document = { ...DOCUMENT, rev, revoked: ["AB"] };
      return { trust: trustOfDocument(document), network: toNodeNetwork(document) };
    };
    assert.deepEqual((await loadSvid(files, { now: NOW, known: known(4) })).network.revoked, ["AB"]);
    assert.deepEqual((await loadSvid(files, { now: NOW, known: known(2) })).network.revoked, []);
  }));

Deno.test("isNewer() goes by revision, then by time", () => {
  assert.equal(isNewer({ rev: 2, iat: 1 }, { rev: 1, iat: 9 }), true);
  assert.equal(isNewer({ rev: 1, iat: 9 }, { rev: 2, iat: 1 }), false);
  assert.equal(isNewer({ rev: 1, iat: 2 }, { rev: 1, iat: 1 }), true);
  assert.equal(isNewer({ rev: 1, iat: 1 }, { rev: 1, iat: 1 }), false);
});

const LEAF_END = NOW + 86_400_000;

async function withFiles(
  test: (files: { certificate: string; key: string; network: string }) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "ginnel-svid-" });
  const files = {
    certificate: `${folder}/svid.pem`,
    key: `${folder}/key.pem`,
    network: `${folder}/net.json`,
  };
  try {
    await Deno.writeTextFile(files.certificate, LEAF.pem);
    await writeSecretFile(files.key, await keyPem(LEAF.keys.privateKey));
    const network = await signNetworkDocument(NETWORK.authority, DOCUMENT);
    const authorities = [NETWORK.authority.publicJwk];
    await Deno.writeTextFile(files.network, formatTrustFile({ trustDomain: DOMAIN, authorities, network }));
    await test(files);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function keyPem(key: CryptoKey): Promise<string> {
  return encodePem("PRIVATE KEY", new Uint8Array(await crypto.subtle.exportKey("pkcs8", key)));
}
