/** What may change a running node's identity and its trust, and what must not. */

import assert from "node:assert/strict";
import { createLogger, SILENT_LOGGER } from "../../../src/base/log.ts";
import type { NodeIdentity } from "../../../src/config/schema/common.ts";
import { type Authority, createAuthority } from "../../../src/identity/authority.ts";
import { formatIdentity, type Identity, loadIdentity } from "../../../src/identity/identity_file.ts";
import { type NetworkDocument, signNetworkDocument } from "../../../src/identity/network_document.ts";
import { encodePem } from "../../../src/identity/pem.ts";
import { createCa } from "../../../src/identity/pki.ts";
import { writeSecretFile } from "../../../src/identity/secret_file.ts";
import { formatTrustFile } from "../../../src/identity/svid_files.ts";
import { type IdentityChange, IdentitySource } from "../../../src/modes/shared/identity_source.ts";
import { createTestNetwork, forge, type Forged } from "../../identity/forge.ts";
import { eventually } from "../../support/eventually.ts";

const DOMAIN = "test.internal";
const network = await createTestNetwork(DOMAIN, Date.now());
const partner = await forge({
  subject: "CN=Partner",
  ca: true,
  names: [{ type: "url", value: "spiffe://partner.example" }],
  ...lifeNow(),
});
const SVID = "spiffe://partner.example/ns/prod/sa/billing";

Deno.test("documents that are forged, older, of another network or broken change nothing", async () => {
  const lines: string[] = [];
  await using node = await enrolled(createLogger({ write: (line) => lines.push(line) }));
  const { source, changes } = node;
  await source.acceptNetwork(await sign({ rev: 5 }), "relay-1");
  const before = source.current;
  changes.length = 0;
  const relays = [{ name: "rogue", address: "rogue.example:4433" }];
  await source.acceptNetwork(await sign({ rev: 6, relays }, await createAuthority()), "relay-1");
  const posing = { ...await createAuthority(), kid: network.authority.kid };
  await source.acceptNetwork(await sign({ rev: 6, relays }, posing), "relay-1");
  await source.acceptNetwork(await sign({ rev: 4, relays }), "relay-1");
  await source.acceptNetwork(await sign({ rev: 5, iat: 1, relays }), "relay-1");
  await source.acceptNetwork(await sign({ rev: 6, relays, trustDomain: "other.internal" }), "relay-1");
  await source.acceptNetwork(await sign({ rev: 6, relays, roots: ["none"] }), "relay-1");
  await source.acceptNetwork("a.b.c", "relay-1");
  assert.equal(source.current, before);
  assert.deepEqual(changes, []);
  assert.deepEqual((await loadIdentity(node.path)).network, before.network);
  const reasons = lines.map((line) => JSON.parse(line)).filter(({ event }) => event === "network_refused")
    .map(({ reason }) => reason);
  assert.deepEqual(reasons.slice(0, 2), ["ERR_NETWORK_DOCUMENT_AUTHORITY", "ERR_NETWORK_DOCUMENT_SIGNATURE"]);
});

Deno.test("a document is taken once, kept in the file, and survives a restart", async () => {
  await using node = await enrolled();
  const { source, changes } = node;
  const next = await createCa({ trustDomain: DOMAIN, now: Date.now(), days: 1 });
  const roots = [next.certificatePem, network.ca.certificatePem];
  const jws = await sign({
    rev: 9,
    roots,
    relays: [{ name: "relay-2", address: "relay-2.example:4433" }],
    revoked: ["AB12"],
    trustDomains: [{ name: "partner.example", roots: [partner.pem] }],
  });
  await source.acceptNetwork(jws, "relay-1");
  await source.acceptNetwork(jws, "relay-2");
  assert.deepEqual(changes, [{ certificate: false, trust: true, authorities: false, relays: true }]);
  assert.deepEqual(source.current.trust.roots, roots);
  const stored = await loadIdentity(node.path);
  assert.deepEqual(stored.network, source.current.network);
  assert.deepEqual(stored.trust, source.current.trust);
  assert.equal(stored.certificatePem, source.current.certificatePem);
});

Deno.test("a revision that changes nothing for a node leaves its trust the very same", async () => {
  await using node = await enrolled();
  const { source, changes } = node;
  await source.acceptNetwork(await sign({ rev: 3 }), "relay-1");
  const { trust } = source.current;
  changes.length = 0;
  await source.acceptNetwork(await sign({ rev: 4 }), "relay-1");
  assert.equal(source.current.network!.rev, 4);
  assert.equal(source.current.trust.roots, trust.roots);
  assert.deepEqual(changes, []);
});

Deno.test("an authority hands over to the next one, and has no say afterwards", async () => {
  await using node = await enrolled();
  const { source } = node;
  const next = await createAuthority();
  const handover = { rev: 2, authorities: [network.authority.publicJwk, next.publicJwk] };
  await source.acceptNetwork(await sign({ rev: 3, authorities: [next.publicJwk] }, next), "relay-1");
  assert.equal(source.current.network, undefined, "nobody vouched for the new one yet");
  await source.acceptNetwork(await sign(handover), "relay-1");
  await source.acceptNetwork(await sign({ rev: 3, authorities: [next.publicJwk] }, next), "relay-1");
  await source.acceptNetwork(await sign({ rev: 4 }), "relay-1");
  assert.equal(source.current.network!.rev, 3);
  assert.deepEqual(source.current.trust.authorities.map(({ kid }) => kid), [next.kid]);
});

Deno.test("a document holds although its file cannot be written, also after the file is read again", async () => {
  await using node = await enrolled();
  const { source, path } = node;
  await Deno.remove(path);
  await Deno.mkdir(path);
  await source.acceptNetwork(await sign({ rev: 7, revoked: ["FF"] }), "relay-1");
  assert.equal(source.current.network!.rev, 7);
  await Deno.remove(path);
  await writeSecretFile(path, await identityText());
  await source.reload();
  assert.deepEqual(source.current.network!.revoked, ["FF"]);
});

Deno.test("a renewed file is taken as soon as it is there; a broken one and another's are not", async () => {
  await using node = await enrolled();
  const { source, path, changes } = node;
  const before = source.current;
  await writeSecretFile(path, "{", { replace: true });
  await source.reload();
  await writeSecretFile(path, await identityText("mallory"), { replace: true });
  await source.reload();
  assert.equal(source.current, before);
  assert.deepEqual(changes, []);
  await writeSecretFile(path, await identityText(), { replace: true });
  await eventually(() => changes.length === 1);
  assert.deepEqual(changes, [{ certificate: true, trust: false, authorities: false, relays: false }]);
  assert.notEqual(source.current.certificatePem, before.certificatePem);
});

Deno.test("an SVID is followed as its helper replaces it, half of a pair at a time", async () => {
  await using node = await withSvid();
  const { source, files, changes } = node;
  assert.deepEqual([source.current.id.kind, source.current.id.uri], ["workload", SVID]);
  assert.equal(source.current.trust.domain, DOMAIN);
  const first = source.current;
  const next = await svid();
  await writeSecretFile(files.certificate, next.pem, { replace: true });
  await source.reload();
  assert.equal(source.current, first, "a certificate without its key is of no use");
  await writeSecretFile(files.key, await keyPem(next), { replace: true });
  await eventually(() => changes.length === 1);
  assert.equal(source.current.certificatePem, next.pem);
});

Deno.test("an SVID of another name, of an expired life or of an unknown CA is not taken", async () => {
  await using node = await withSvid();
  const { source, files, changes } = node;
  const twin = await forge({ subject: "CN=Partner", ca: true, ...lifeNow() });
  const other = await svid({ names: [{ type: "url", value: "spiffe://partner.example/ns/prod/sa/other" }] });
  const expired = await svid({ notBefore: Date.now() - 10_000, notAfter: Date.now() - 5_000 });
  for (const bad of [other, expired, await svid({ issuer: twin })]) {
    await writeSecretFile(files.certificate, bad.pem, { replace: true });
    await writeSecretFile(files.key, await keyPem(bad), { replace: true });
    await source.reload();
  }
  assert.deepEqual(changes, []);
});

Deno.test("an SVID of a CA that is not known yet is taken when the network says that it is", async () => {
  await using node = await withSvid();
  const { source, files, changes } = node;
  const ca = await forge({
    subject: "CN=Partner 2",
    ca: true,
    names: [{ type: "url", value: "spiffe://partner.example" }],
    ...lifeNow(),
  });
  const next = await svid({ issuer: ca });
  await writeSecretFile(files.certificate, next.pem, { replace: true });
  await writeSecretFile(files.key, await keyPem(next), { replace: true });
  await source.reload();
  await source.acceptNetwork(await sign({ rev: 2, trustDomains: PARTNERS, revoked: ["AB"] }), "relay-1");
  assert.deepEqual(changes.map(({ certificate }) => certificate), [false]);
  const roots = [partner.pem, ca.pem];
  await source.acceptNetwork(
    await sign({ rev: 3, trustDomains: [{ name: "partner.example", roots }] }),
    "relay-1",
  );
  assert.equal(source.current.certificatePem, next.pem);
  assert.deepEqual(changes.map(({ certificate }) => certificate), [false, false, true]);
});

Deno.test("an SVID's network is followed, and no file of others is written", async () => {
  await using node = await withSvid();
  const { source, files } = node;
  const trustFile = await Deno.readTextFile(files.network);
  await source.acceptNetwork(
    await sign({ rev: 8, trustDomains: source.current.network!.trustDomains }),
    "relay-1",
  );
  assert.equal(source.current.network!.rev, 8);
  assert.equal(await Deno.readTextFile(files.network), trustFile);
  // The trust file is older than what is known by now.
  const next = await svid();
  await writeSecretFile(files.certificate, next.pem, { replace: true });
  await writeSecretFile(files.key, await keyPem(next), { replace: true });
  await source.reload();
  assert.equal(source.current.certificatePem, next.pem);
  assert.equal(source.current.network!.rev, 8);
});

Deno.test("an SVID does not start with a forged trust file, or one that does not know its domain", async () => {
  const forged = await sign({ rev: 1, trustDomains: PARTNERS }, await createAuthority());
  await assert.rejects(withSvid(forged), { code: "ERR_NETWORK_DOCUMENT_AUTHORITY" });
  await assert.rejects(withSvid(await sign({ rev: 1 })), { code: "ERR_CERT_UNTRUSTED" });
});

Deno.test("an SVID's key must be its owner's alone", async () => {
  await using node = await withSvid();
  await Deno.chmod(node.files.key, 0o644);
  await assert.rejects(IdentitySource.open(node.files, { logger: SILENT_LOGGER }), {
    code: "ERR_KEY_FILE_READABLE",
  });
});

const PARTNERS = [{ name: "partner.example", roots: [partner.pem] }];

interface Opened extends AsyncDisposable {
  readonly source: IdentitySource;
  readonly changes: IdentityChange[];
}

/** A source on an identity file. */
async function enrolled(logger = SILENT_LOGGER): Promise<Opened & { readonly path: string }> {
  const folder = await Deno.makeTempDir({ prefix: "ginnel-identity-" });
  const path = `${folder}/alice.json`;
  await writeSecretFile(path, await identityText());
  return { ...await open(path, { folder, logger }), path };
}

/** A source on the files of an SVID. */
async function withSvid(jws?: string) {
  const folder = await Deno.makeTempDir({ prefix: "ginnel-svid-" });
  const files = {
    certificate: `${folder}/svid.pem`,
    key: `${folder}/svid_key.pem`,
    network: `${folder}/network.json`,
  };
  const first = await svid();
  await writeSecretFile(files.certificate, first.pem);
  await writeSecretFile(files.key, await keyPem(first));
  const trust = formatTrustFile({
    trustDomain: DOMAIN,
    authorities: [network.authority.publicJwk],
    network: jws ?? await sign({ rev: 1, trustDomains: PARTNERS }),
  });
  await Deno.writeTextFile(files.network, trust);
  return { ...await open(files, { folder, logger: SILENT_LOGGER }), files };
}

async function open(
  place: NodeIdentity,
  { folder, logger }: { readonly folder: string; readonly logger: typeof SILENT_LOGGER },
): Promise<Opened> {
  const changes: IdentityChange[] = [];
  let source: IdentitySource;
  try {
    source = await IdentitySource.open(place, { logger });
  } catch (error) {
    await Deno.remove(folder, { recursive: true });
    throw error;
  }
  source.onChange((change) => changes.push(change));
  return {
    source,
    changes,
    [Symbol.asyncDispose]: async () => {
      await source.close();
      await Deno.remove(folder, { recursive: true });
    },
  };
}

async function identityText(name = "alice"): Promise<string> {
  const identity: Identity = await network.identity("agent", name, { seconds: 600 });
  return formatIdentity(identity);
}

function svid(options: Parameters<typeof forge>[0] = {}): Promise<Forged> {
  return forge({ issuer: partner, names: [{ type: "url", value: SVID }], ...lifeNow(), ...options });
}

async function keyPem({ keys }: Forged): Promise<string> {
  return encodePem("PRIVATE KEY", new Uint8Array(await crypto.subtle.exportKey("pkcs8", keys.privateKey)));
}

function lifeNow() {
  return { notBefore: Date.now() - 60_000, notAfter: Date.now() + 3_600_000 };
}

function sign(parts: Partial<NetworkDocument>, by: Authority = network.authority): Promise<string> {
  return signNetworkDocument(by, {
    rev: 1,
    iat: Math.floor(Date.now() / 1_000),
    trustDomain: DOMAIN,
    roots: [network.ca.certificatePem],
    authorities: [network.authority.publicJwk],
    controllers: [],
    relays: [],
    trustDomains: [],
    revoked: [],
    ...parts,
  });
}
