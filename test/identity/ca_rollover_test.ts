/** Replacing a CA: in order, and from wherever a step was cut short. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { caPaths, createCaDirectory, openCaDirectory } from "../../src/identity/ca_directory.ts";
import { activateCa, caFingerprint, readCaSet, retireCas, stageCa } from "../../src/identity/ca_rollover.ts";
import { verifyChain } from "../../src/identity/chain.ts";
import { issueCertificate } from "../../src/identity/pki.ts";
import { DOMAIN, NOW, rejectsWith } from "./forge.ts";

const OPTIONS = { now: NOW, days: 30 };

Deno.test("a CA is staged, then issues, then the old one is retired; its key is gone at once", () =>
  inCaDirectory(async (directory) => {
    const { issuing: first } = await readCaSet(directory);
    const firstKey = await Deno.readTextFile(caPaths(directory).key);
    const staged = await stageCa(directory, OPTIONS);
    assert.notEqual(caFingerprint(staged), caFingerprint(first));
    assert.deepEqual(await readCaSet(directory), { issuing: first, staged, previous: [] });
    const early = await issue(directory);

    assert.equal(await activateCa(directory), staged);
    assert.deepEqual(await readCaSet(directory), { issuing: staged, staged: undefined, previous: [first] });
    const late = await issue(directory);
    for (const chain of [early, late]) await verifyChain({ chain, roots: [staged, first], now: NOW });
    await rejectsWith("ERR_CERT_SIGNATURE", () => verifyChain({ chain: late, roots: [first], now: NOW }));
    for await (const text of texts(directory)) assert.ok(!text.includes(firstKey.split("\n")[1]!));

    assert.equal(await retireCas(directory), 1);
    assert.deepEqual(await readCaSet(directory), { issuing: staged, staged: undefined, previous: [] });
  }));

Deno.test("private keys of a staged CA are private", () =>
  inCaDirectory(async (directory) => {
    await stageCa(directory, OPTIONS);
    assert.equal((await Deno.stat(join(directory, "next", "ca.key"))).mode! & 0o777, 0o600);
    await Deno.chmod(join(directory, "next", "ca.key"), 0o644);
    await rejectsWith("ERR_KEY_FILE_READABLE", () => activateCa(directory));
  }));

Deno.test("steps out of order are refused and change nothing", () =>
  inCaDirectory(async (directory) => {
    const before = await readCaSet(directory);
    await rejectsWith("ERR_CA_ROLLOVER", () => activateCa(directory));
    await rejectsWith("ERR_CA_ROLLOVER", () => retireCas(directory));
    assert.deepEqual(await readCaSet(directory), before);
    const staged = await stageCa(directory, OPTIONS);
    await rejectsWith("ERR_CA_ROLLOVER", () => stageCa(directory, OPTIONS));
    assert.equal((await readCaSet(directory)).staged, staged);
  }));

Deno.test("an activation cut short after any of its steps is completed by repeating it", () =>
  inCaDirectory(async (template) => {
    const { issuing: first } = await readCaSet(template);
    const staged = await stageCa(template, OPTIONS);
    const next = join(template, "next");
    const stages: ((directory: string) => Promise<void>)[] = [
      async (directory) => {
        await Deno.mkdir(join(directory, "previous"));
        await Deno.writeTextFile(join(directory, "previous", `${caFingerprint(first)}.crt`), first);
      },
      (directory) => Deno.copyFile(join(next, "ca.key"), caPaths(directory).key),
      (directory) => Deno.copyFile(join(next, "ca.crt"), caPaths(directory).certificate),
      (directory) => Deno.remove(join(directory, "next", "ca.key")),
    ];
    for (let count = 1; count <= stages.length; count++) {
      await using copy = await copyOf(template);
      for (const step of stages.slice(0, count)) await step(copy.directory);
      if (count === 2) {
        const what = {
          code: "ERR_IDENTITY_KEY_MISMATCH",
          hint: /cut short, repeat it: ginnel ca rotate activate/,
        };
        await assert.rejects(openCaDirectory(copy.directory), what);
      }
      assert.equal(await activateCa(copy.directory), staged);
      assert.equal((await openCaDirectory(copy.directory)).ca.certificatePem, staged);
      const { previous } = await readCaSet(copy.directory);
      assert.ok(previous.includes(first), `after ${count} steps`);
      assert.equal(await retireCas(copy.directory), 1);
    }
  }));

async function issue(directory: string): Promise<string> {
  const { ca } = await openCaDirectory(directory);
  return (await issueCertificate(ca, { kind: "agent", name: "alice", now: NOW, days: 1 })).certificatePem;
}

async function* texts(directory: string): AsyncIterable<string> {
  for (const { name, isFile } of Deno.readDirSync(directory)) {
    const path = join(directory, name);
    if (isFile) yield await Deno.readTextFile(path);
    else yield* texts(path);
  }
}

async function copyOf(source: string): Promise<{ directory: string } & AsyncDisposable> {
  const directory = await Deno.makeTempDir();
  const copy = async (from: string, to: string) => {
    for (const { name, isFile } of Deno.readDirSync(from)) {
      if (isFile) await Deno.copyFile(join(from, name), join(to, name));
      else {
        await Deno.mkdir(join(to, name));
        await copy(join(from, name), join(to, name));
      }
    }
  };
  await copy(source, directory);
  return { directory, [Symbol.asyncDispose]: () => Deno.remove(directory, { recursive: true }) };
}

async function inCaDirectory(test: (directory: string) => Promise<void>): Promise<void> {
  const parent = await Deno.makeTempDir();
  try {
    const directory = join(parent, "ca");
    await createCaDirectory(directory, { trustDomain: DOMAIN, ...OPTIONS });
    await test(directory);
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
}
