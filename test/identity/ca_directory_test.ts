/** A CA on disk: made once, private, and read back. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { loadAuthority } from "../../src/identity/authority.ts";
import {
  caPaths,
  createCaDirectory,
  openCaDirectory,
  readPublicCa,
} from "../../src/identity/ca_directory.ts";
import { issueIdentity } from "../../src/identity/issue_identity.ts";
import { parseIdentity } from "../../src/identity/identity_file.ts";
import { DOMAIN, NOW, rejectsWith } from "./forge.ts";

const OPTIONS = { trustDomain: DOMAIN, now: NOW, days: 30 };

Deno.test("createCaDirectory() makes what openCaDirectory() opens, with private keys private", () =>
  inDirectory(async (directory) => {
    const made = await createCaDirectory(directory, OPTIONS);
    const opened = await openCaDirectory(directory);
    assert.equal(opened.ca.certificatePem, made.ca.certificatePem);
    assert.deepEqual(opened.authority, made.authority);
    const paths = caPaths(directory);
    for (const path of [paths.key, paths.authorityKey]) {
      assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600, path);
    }
    assert.equal((await loadAuthority(paths.authorityKey)).kid, made.authority.kid);
    assert.ok(!(await Deno.readTextFile(paths.authorityPublic)).includes('"d"'));
  }));

Deno.test("an identity issued from the directory trusts its CA and its authority", () =>
  inDirectory(async (directory) => {
    await createCaDirectory(directory, OPTIONS);
    const { ca, authority } = await openCaDirectory(directory);
    const options = { kind: "connector" as const, name: "c1", now: NOW, days: 1, authorities: [authority] };
    const { text, id, notAfter } = await issueIdentity(ca, options);
    const identity = await parseIdentity(text, { source: "c1", now: NOW });
    assert.equal(identity.id.uri, id.uri);
    assert.equal(identity.notAfter, notAfter);
    assert.deepEqual(identity.trust.authorities, [authority]);
  }));

Deno.test("createCaDirectory() overwrites nothing, whichever file is there", () =>
  inDirectory(async (directory) => {
    for (const path of Object.values(caPaths(directory))) {
      await Deno.mkdir(directory, { recursive: true });
      await Deno.writeTextFile(path, "precious");
      await rejectsWith("ERR_IDENTITY_FILE_EXISTS", () => createCaDirectory(directory, OPTIONS));
      assert.deepEqual([...Deno.readDirSync(directory)].map((entry) => entry.name).length, 1);
      assert.equal(await Deno.readTextFile(path), "precious");
      await Deno.remove(path);
    }
  }));

Deno.test("createCaDirectory() says so when the directory is a file", () =>
  inDirectory(async (directory) => {
    await Deno.writeTextFile(directory, "");
    await rejectsWith("ERR_IDENTITY_FILE_UNWRITABLE", () => createCaDirectory(directory, OPTIONS));
  }));

Deno.test("openCaDirectory() refuses a readable key, a missing file and a private key in the public place", () =>
  inDirectory(async (directory) => {
    await createCaDirectory(directory, OPTIONS);
    const paths = caPaths(directory);
    await Deno.chmod(paths.key, 0o644);
    await rejectsWith("ERR_KEY_FILE_READABLE", () => openCaDirectory(directory));
    assert.ok(await readPublicCa(directory));
    await Deno.copyFile(paths.authorityKey, paths.authorityPublic);
    await rejectsWith("ERR_IDENTITY_FILE_CORRUPT", () => readPublicCa(directory));
    await Deno.remove(paths.certificate);
    await rejectsWith("ERR_IDENTITY_FILE_MISSING", () => readPublicCa(directory));
  }));

async function inDirectory(test: (directory: string) => Promise<void>): Promise<void> {
  const parent = await Deno.makeTempDir();
  try {
    await test(join(parent, "ca"));
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
}
