/** The CA of a running controller: what it issues, and how it follows its directory through a rollover. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { createLogger, SILENT_LOGGER } from "../../../src/base/log.ts";
import { CaKeeper } from "../../../src/control/ca/ca_keeper.ts";
import { caPaths, createCaDirectory } from "../../../src/identity/ca_directory.ts";
import { activateCa, caFingerprint, retireCas, stageCa } from "../../../src/identity/ca_rollover.ts";
import { verifyChain } from "../../../src/identity/chain.ts";
import { parseIdentity } from "../../../src/identity/identity_file.ts";
import { generateKeyPair } from "../../../src/identity/key_pair.ts";
import { eventually } from "../../support/eventually.ts";

const DAY = 86_400_000;
const LIFE = { now: Date.now(), days: 10 };
const ALICE = { kind: "agent", name: "alice", life: DAY } as const;

Deno.test("a keeper follows its directory through a rollover and says when trust changed", () =>
  withCa(async (directory) => {
    const ca = await open(directory);
    const first = ca.issuer;
    assert.equal(await ca.reload(), false);
    const early = await issue(ca);
    await stageCa(directory, LIFE);
    assert.equal(await ca.reload(), true);
    assert.deepEqual([ca.issuer, ca.roots().length], [first, 2]);
    assert.equal(caFingerprint(ca.roots()[1]!), ca.nextIssuer);
    const next = ca.nextIssuer;
    await activateCa(directory);
    assert.equal(await ca.reload(), true);
    assert.deepEqual([ca.issuer, ca.nextIssuer], [next, undefined]);
    assert.deepEqual(ca.roots().map(caFingerprint), [next, first]);
    const late = await issue(ca);
    assert.equal(late.issuer, next);
    for (const { certificate } of [early, late]) {
      await verifyChain({ chain: certificate, roots: ca.roots(), now: Date.now() });
    }
    await retireCas(directory);
    assert.equal(await ca.reload(), true);
    assert.deepEqual(ca.roots().map(caFingerprint), [next]);
  }));

Deno.test("a keeper goes on with what it has while its directory cannot be used, and says so once", () =>
  withCa(async (directory) => {
    const lines: string[] = [];
    const logger = createLogger({ write: (line) => lines.push(line) });
    const ca = await CaKeeper.open(directory, { logger, now: Date.now });
    const { certificate, key } = caPaths(directory);
    const good = await Deno.readTextFile(key);
    // As in the middle of an activation: the key is the next CA's, the certificate is not.
    await stageCa(directory, LIFE);
    assert.equal(await ca.reload(), true);
    await Deno.copyFile(join(directory, "next", "ca.key"), key);
    for (let look = 0; look < 3; look++) assert.equal(await ca.reload(), false);
    assert.equal(lines.filter((line) => line.includes("ca_not_reloaded")).length, 1);
    assert.ok(await issue(ca));
    await Deno.writeTextFile(key, good, { mode: 0o600 });
    await using other = await makeCaFolder("other.internal");
    await Deno.copyFile(caPaths(other.directory).certificate, certificate);
    await Deno.copyFile(caPaths(other.directory).key, key);
    assert.equal(await ca.reload(), false);
    assert.equal(ca.trustDomain, "test.internal");
  }));

Deno.test("a keeper that watches tells of a rollover by itself", () =>
  withCa(async (directory) => {
    const ca = await open(directory);
    let changes = 0;
    const stop = ca.watch(() => changes++, { interval: 10 });
    try {
      await stageCa(directory, LIFE);
      await eventually(() => changes === 1);
    } finally {
      stop();
    }
  }));

Deno.test("a certificate ends with its CA at the latest, and an ended CA issues none", () =>
  withCa(async (directory) => {
    let now = LIFE.now + 9 * DAY;
    const ca = await CaKeeper.open(directory, { logger: SILENT_LOGGER, now: () => now });
    const { publicKey } = await generateKeyPair();
    const issued = await ca.issue(publicKey, { ...ALICE, life: 30 * DAY });
    assert.ok(issued.notAfter <= LIFE.now + 10 * DAY && issued.notAfter > now);
    now = LIFE.now + 11 * DAY;
    await assert.rejects(() => ca.issue(publicKey, ALICE), { code: "ERR_CA_LIFETIME" });
    assert.equal(ca.roots().length, 1);
  }));

Deno.test("makeIdentity() makes an identity file that loads and trusts every CA of the network", () =>
  withCa(async (directory) => {
    await stageCa(directory, LIFE);
    const ca = await open(directory);
    const names = ["controller.example", "127.0.0.1"];
    const made = await ca.makeIdentity({ kind: "controller", name: "controller-1", life: DAY, names });
    const identity = await parseIdentity(made.text, { source: "test", now: Date.now() });
    assert.equal(identity.id.uri, made.spiffeId);
    assert.deepEqual(identity.trust.roots, ca.roots());
    assert.deepEqual(identity.trust.authorities, [ca.authority.publicJwk]);
  }));

function open(directory: string): Promise<CaKeeper> {
  return CaKeeper.open(directory, { logger: SILENT_LOGGER, now: Date.now });
}

async function issue(ca: CaKeeper) {
  return await ca.issue((await generateKeyPair()).publicKey, ALICE);
}

async function makeCaFolder(trustDomain: string): Promise<{ directory: string } & AsyncDisposable> {
  const parent = await Deno.makeTempDir();
  const directory = join(parent, "ca");
  await createCaDirectory(directory, { trustDomain, ...LIFE });
  return { directory, [Symbol.asyncDispose]: () => Deno.remove(parent, { recursive: true }) };
}

async function withCa(test: (directory: string) => Promise<void>): Promise<void> {
  await using folder = await makeCaFolder("test.internal");
  await test(folder.directory);
}
