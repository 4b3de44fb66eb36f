/** Identity files: read as a whole, refused for one wrong thing, and never quoted in an error. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { createAuthority } from "../../src/identity/authority.ts";
import {
  formatIdentity,
  loadIdentity,
  parseIdentity,
  readIdentityParts,
  updateIdentityFile,
} from "../../src/identity/identity_file.ts";
import { issueIdentity } from "../../src/identity/issue_identity.ts";
import { createCa } from "../../src/identity/pki.ts";
import { writeSecretFile } from "../../src/identity/secret_file.ts";
import { createTestNetwork, DOMAIN, NOW, rejectsWith } from "./forge.ts";

const NETWORK = await createTestNetwork();
const TEXT = (await issue("alice")).text;

Deno.test("parseIdentity() reads what issueIdentity() made", async () => {
  const identity = await parse(TEXT);
  assert.equal(identity.id.uri, `spiffe://${DOMAIN}/agent/alice`);
  assert.equal(identity.notAfter, NOW + 86_400_000);
  assert.equal(identity.chainDer.length, 1);
  assert.equal(identity.privateKey.extractable, false);
  assert.deepEqual(identity.trust.roots, [NETWORK.ca.certificatePem]);
  assert.equal(identity.trust.authorities[0]!.kid, NETWORK.authority.kid);
});

Deno.test("formatIdentity() writes what parseIdentity() read", async () => {
  assert.equal(formatIdentity(await parse(TEXT)), TEXT);
});

Deno.test("loadIdentity() reads a private file and refuses one that others can read", async () => {
  const directory = await Deno.makeTempDir();
  const path = join(directory, "alice.json");
  try {
    await writeSecretFile(path, TEXT);
    assert.equal((await loadIdentity(path, { now: NOW })).id.name, "alice");
    await rejectsWith("ERR_CERT_EXPIRED", () => loadIdentity(path, { now: NOW + 2 * 86_400_000 }));
    await Deno.chmod(path, 0o644);
    await assert.rejects(() => loadIdentity(path, { now: NOW }), {
      code: "ERR_KEY_FILE_READABLE",
      hint: `chmod 600 ${path}`,
    });
    await rejectsWith("ERR_IDENTITY_FILE_MISSING", () => loadIdentity(join(directory, "bob.json")));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("parseIdentity() refuses a file cut off at any place, naming it and quoting nothing of it", async () => {
  const key = JSON.parse(TEXT).privateKey as string;
  const secret = key.split("\n")[1]!.slice(0, 16);
  for (let length = 0; length < TEXT.length - 2; length += 31) {
    await assert.rejects(() => parse(TEXT.slice(0, length)), (error: Error & { code?: string }) => {
      assert.equal(error.code, "ERR_IDENTITY_FILE_CORRUPT");
      assert.ok(error.message.includes("alice.json"), error.message);
      assert.ok(!Deno.inspect(error).includes(secret), "the error quotes the private key");
      return true;
    });
  }
});

Deno.test("parseIdentity() names the field that is wrong", async () => {
  const wrong: [RegExp, Record<string, unknown>][] = [
    [/version/, { version: 2 }],
    [/id/, { id: 7 }],
    [/certificate/, { certificate: undefined }],
    [/privateKey/, { privateKey: null }],
    [/colour/, { colour: "red" }],
    [/trust\.roots/, { trust: { domain: DOMAIN, roots: [], authorities: [NETWORK.authority.publicJwk] } }],
    [/trust\.authorities/, { trust: { domain: DOMAIN, roots: ["x"], authorities: [] } }],
  ];
  for (const [pattern, change] of wrong) {
    await assert.rejects(() => parse(withChange(change)), (error: Error & { code?: string }) => {
      assert.equal(error.code, "ERR_IDENTITY_FILE_CORRUPT");
      assert.match(error.message, pattern);
      return true;
    });
  }
});

Deno.test("parseIdentity() refuses a private key among the trusted ones", async () => {
  const trust = {
    domain: DOMAIN,
    roots: [NETWORK.ca.certificatePem],
    authorities: [NETWORK.authority.privateJwk],
  };
  await assert.rejects(() => parse(withChange({ trust })), (error: Error & { code?: string }) => {
    assert.equal(error.code, "ERR_IDENTITY_FILE_CORRUPT");
    assert.ok(!Deno.inspect(error).includes(NETWORK.authority.privateJwk.d!));
    return true;
  });
});

Deno.test("parseIdentity() refuses another identity's key", async () => {
  const { privateKey } = JSON.parse((await issue("bob")).text);
  await rejectsWith("ERR_IDENTITY_KEY_MISMATCH", () => parse(withChange({ privateKey })));
});

Deno.test("parseIdentity() refuses a broken key or certificate without quoting it", async () => {
  const { privateKey, certificate } = JSON.parse(TEXT);
  const broken = privateKey.replace(/[A-Z]{3}/, "AAA");
  await assert.rejects(
    () => parse(withChange({ privateKey: broken })),
    (error: Error & { code?: string }) => {
      assert.match(error.code!, /^ERR_IDENTITY_(FILE_CORRUPT|KEY_MISMATCH)$/);
      assert.ok(!Deno.inspect(error).includes(broken.split("\n")[1]!.slice(20, 40)));
      return true;
    },
  );
  await rejectsWith("ERR_IDENTITY_FILE_CORRUPT", () => parse(withChange({ privateKey: "" })));
  await rejectsWith("ERR_IDENTITY_FILE_CORRUPT", () => parse(withChange({ privateKey: certificate })));
  await rejectsWith("ERR_IDENTITY_FILE_CORRUPT", () => parse(withChange({ certificate: "" })));
  await rejectsWith(
    "ERR_IDENTITY_FILE_CORRUPT",
    () => parse(withChange({ certificate: certificate.slice(40) })),
  );
});

Deno.test("parseIdentity() refuses an ID that is not the certificate's", async () => {
  await rejectsWith(
    "ERR_IDENTITY_FILE_CORRUPT",
    () => parse(withChange({ id: `spiffe://${DOMAIN}/agent/root` })),
  );
});

Deno.test("parseIdentity() refuses a certificate that its own trust does not cover", async () => {
  const twin = await createCa({ trustDomain: DOMAIN, now: NOW, days: 1 });
  const authorities = [NETWORK.authority.publicJwk];
  await rejectsWith(
    "ERR_CERT_SIGNATURE",
    () => parse(withChange({ trust: { domain: DOMAIN, roots: [twin.certificatePem], authorities } })),
  );
  await rejectsWith(
    "ERR_CERT_TRUST_DOMAIN",
    () =>
      parse(
        withChange({ trust: { domain: "other.internal", roots: [NETWORK.ca.certificatePem], authorities } }),
      ),
  );
});

Deno.test("parseIdentity() says what to do about an expired identity", async () => {
  await assert.rejects(() => parseIdentity(TEXT, { source: "alice.json", now: NOW + 2 * 86_400_000 }), {
    code: "ERR_CERT_EXPIRED",
    hint:
      /^Check the clock; if it is right, enrol again .* issue a new identity with: ginnel ca issue KIND NAME$/,
  });
  await rejectsWith(
    "ERR_CERT_NOT_YET_VALID",
    () => parseIdentity(TEXT, { source: "x", now: NOW - 86_400_000 }),
  );
});

Deno.test("readIdentityParts() reads the public parts of an expired identity too", () => {
  const { certificate, authorities } = readIdentityParts(TEXT, "alice.json");
  assert.match(certificate, /^-----BEGIN CERTIFICATE-----/);
  assert.equal(authorities[0]!.kid, NETWORK.authority.kid);
});

Deno.test("formatIdentity() does not let an authority's private key out", async () => {
  const { privateJwk } = await createAuthority();
  const identity = await parse(TEXT);
  assert.throws(() =>
    formatIdentity({ ...identity, trust: { ...identity.trust, authorities: [privateJwk] } })
  );
});

const KNOWN_NETWORK = {
  rev: 3,
  iat: 1,
  controllers: [{ name: "controller-1", url: "https://controller.example:8441" }],
  relays: [{ name: "relay-1", address: "relay.example:4433" }],
  trustDomains: [{ name: "partner.example", roots: ["pem"] }],
  revoked: ["4F00AA"],
};

Deno.test("an identity file keeps what it was told of the network, and trusts foreign domains by that alone", async () => {
  const identity = await parse(withChange({ network: KNOWN_NETWORK }));
  assert.deepEqual(identity.network, KNOWN_NETWORK);
  assert.deepEqual(identity.trust.foreign, [{ domain: "partner.example", roots: ["pem"] }]);
  assert.deepEqual(await parse(formatIdentity(identity)), identity);
  for (const wrong of [{ rev: "3" }, { controllers: [{ name: "c", url: "http://c" }] }, { revoked: ["x"] }]) {
    await rejectsWith(
      "ERR_IDENTITY_FILE_CORRUPT",
      () => parse(withChange({ network: { ...KNOWN_NETWORK, ...wrong } })),
    );
  }
});

Deno.test("updateIdentityFile() keeps both of two changes made at once, and the mode", async () => {
  const directory = await Deno.makeTempDir();
  const path = join(directory, "alice.json");
  try {
    await writeSecretFile(path, TEXT);
    const twin = await createCa({ trustDomain: DOMAIN, now: NOW, days: 1 });
    await Promise.all([
      updateIdentityFile(path, () => ({ network: KNOWN_NETWORK }), { now: NOW }),
      updateIdentityFile(path, ({ trust }) => ({
        trust: { ...trust, roots: [...trust.roots, twin.certificatePem] },
      }), { now: NOW }),
    ]);
    const identity = await loadIdentity(path, { now: NOW });
    assert.equal(identity.network?.rev, 3);
    assert.equal(identity.trust.roots.length, 2);
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("updateIdentityFile() leaves the file alone when what would come of it cannot be used", async () => {
  const directory = await Deno.makeTempDir();
  const path = join(directory, "alice.json");
  try {
    await writeSecretFile(path, TEXT);
    const twin = await createCa({ trustDomain: DOMAIN, now: NOW, days: 1 });
    await rejectsWith(
      "ERR_CERT_SIGNATURE",
      () =>
        updateIdentityFile(path, ({ trust }) => ({ trust: { ...trust, roots: [twin.certificatePem] } }), {
          now: NOW,
        }),
    );
    const { privateKey } = JSON.parse((await issue("bob")).text);
    await rejectsWith(
      "ERR_IDENTITY_KEY_MISMATCH",
      () => updateIdentityFile(path, () => ({ privateKeyPem: privateKey }), { now: NOW }),
    );
    assert.equal(await Deno.readTextFile(path), TEXT);
    assert.deepEqual([...Deno.readDirSync(directory)].map(({ name }) => name), ["alice.json"]);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

function issue(name: string) {
  const authorities = [NETWORK.authority.publicJwk];
  return issueIdentity(NETWORK.ca, { kind: "agent", name, now: NOW, days: 1, authorities });
}

function parse(text: string) {
  return parseIdentity(text, { source: "alice.json", now: NOW });
}

function withChange(change: Record<string, unknown>): string {
  return JSON.stringify({ ...JSON.parse(TEXT), ...change });
}
