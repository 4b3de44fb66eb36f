/** Key files: private, whole, never overwritten by accident, and refused when others can read them. */

import assert from "node:assert/strict";
import { join } from "node:path";
import {
  MAX_FILE_LENGTH,
  readPublicFile,
  readSecretFile,
  writeSecretFile,
} from "../../src/identity/secret_file.ts";
import { rejectsWith } from "./forge.ts";

Deno.test("writeSecretFile() makes a file for its owner only, whatever the umask", () =>
  inDirectory(async (directory) => {
    const path = join(directory, "key");
    const before = Deno.umask(0);
    try {
      await writeSecretFile(path, "secret\n");
    } finally {
      Deno.umask(before);
    }
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
    assert.equal(await readSecretFile(path), "secret\n");
    assert.deepEqual(names(directory), ["key"]);
  }));

Deno.test("writeSecretFile() keeps an existing file, or link, unless told to replace it", () =>
  inDirectory(async (directory) => {
    const path = join(directory, "key");
    await writeSecretFile(path, "first");
    await rejectsWith("ERR_IDENTITY_FILE_EXISTS", () => writeSecretFile(path, "second"));
    assert.equal(await readSecretFile(path), "first");
    await writeSecretFile(path, "second", { replace: true });
    assert.equal(await readSecretFile(path), "second");
    const link = join(directory, "link");
    await Deno.symlink(join(directory, "elsewhere"), link);
    await rejectsWith("ERR_IDENTITY_FILE_EXISTS", () => writeSecretFile(link, "third"));
    assert.deepEqual(names(directory), ["key", "link"]);
  }));

Deno.test("writeSecretFile() lets exactly one of two writers win", () =>
  inDirectory(async (directory) => {
    const path = join(directory, "key");
    const writers = ["a", "b", "c", "d"].map((text) => writeSecretFile(path, text));
    const outcomes = await Promise.allSettled(writers);
    assert.equal(outcomes.filter((outcome) => outcome.status === "fulfilled").length, 1);
    assert.equal((await readSecretFile(path)).length, 1);
    assert.deepEqual(names(directory), ["key"]);
  }));

Deno.test("writeSecretFile() names the file that it cannot write and leaves nothing behind", () =>
  inDirectory(async (directory) => {
    const path = join(directory, "missing", "key");
    await assert.rejects(
      () => writeSecretFile(path, "top-secret-text"),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, "ERR_IDENTITY_FILE_UNWRITABLE");
        assert.ok(error.message.includes(path));
        assert.ok(!error.message.includes("top-secret-text"));
        return true;
      },
    );
    assert.deepEqual(names(directory), []);
  }));

Deno.test("readSecretFile() refuses a file that others can read, with the command that mends it", () =>
  inDirectory(async (directory) => {
    const path = join(directory, "it's a key");
    await writeSecretFile(path, "secret");
    for (const mode of [0o604, 0o640, 0o620, 0o601, 0o644, 0o777]) {
      await Deno.chmod(path, mode);
      await assert.rejects(() => readSecretFile(path), {
        code: "ERR_KEY_FILE_READABLE",
        hint: `chmod 600 '${directory}/it'\\''s a key'`,
      }, mode.toString(8));
      assert.equal(await readPublicFile(path), "secret");
    }
    for (const mode of [0o600, 0o400]) {
      await Deno.chmod(path, mode);
      assert.equal(await readSecretFile(path), "secret");
    }
  }));

Deno.test("readSecretFile() judges the file behind a link", () =>
  inDirectory(async (directory) => {
    const path = join(directory, "key");
    await writeSecretFile(path, "secret");
    await Deno.symlink(path, join(directory, "link"));
    assert.equal(await readSecretFile(join(directory, "link")), "secret");
    await Deno.chmod(path, 0o644);
    await rejectsWith("ERR_KEY_FILE_READABLE", () => readSecretFile(join(directory, "link")));
  }));

Deno.test("readSecretFile() tells apart what is missing, no file, too large and no text", () =>
  inDirectory(async (directory) => {
    await rejectsWith("ERR_IDENTITY_FILE_MISSING", () => readSecretFile(join(directory, "nothing")));
    await rejectsWith("ERR_IDENTITY_FILE_UNREADABLE", () => readSecretFile(directory));
    const large = join(directory, "large");
    await writeSecretFile(large, "x".repeat(MAX_FILE_LENGTH + 1));
    await rejectsWith("ERR_IDENTITY_FILE_CORRUPT", () => readSecretFile(large));
    const binary = join(directory, "binary");
    await Deno.writeFile(binary, new Uint8Array([0xff, 0xfe]), { mode: 0o600 });
    await rejectsWith("ERR_IDENTITY_FILE_CORRUPT", () => readSecretFile(binary));
  }));

async function inDirectory(test: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await test(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function names(directory: string): string[] {
  return [...Deno.readDirSync(directory)].map((entry) => entry.name).sort();
}
