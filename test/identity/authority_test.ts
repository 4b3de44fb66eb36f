/** The authority's key: made, stored, read back; a wrong file is refused and never quoted. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { calculateJwkThumbprint } from "jose";
import {
  AuthorityJwk,
  createAuthority,
  loadAuthority,
  parseAuthority,
} from "../../src/identity/authority.ts";
import { writeSecretFile } from "../../src/identity/secret_file.ts";
import { rejectsWith } from "./forge.ts";

Deno.test("createAuthority() names its public key by its thumbprint [RFC7638-3]", async () => {
  const { kid, publicJwk } = await createAuthority();
  const { x, y } = publicJwk;
  assert.equal(kid, await calculateJwkThumbprint({ kty: "EC", crv: "P-256", x: x!, y: y! }));
  assert.equal(publicJwk.kid, kid);
  assert.ok(!("d" in publicJwk));
  assert.ok(AuthorityJwk.safeParse(publicJwk).success);
});

Deno.test("parseAuthority() reads back what createAuthority() made", async () => {
  const { privateJwk, publicJwk } = await createAuthority();
  const authority = await parseAuthority(JSON.stringify(privateJwk), { source: "authority.key" });
  assert.deepEqual(authority.publicJwk, publicJwk);
  assert.equal(authority.privateKey.extractable, false);
});

Deno.test("loadAuthority() refuses a key file that others can read", async () => {
  const directory = await Deno.makeTempDir();
  const path = join(directory, "authority.key");
  try {
    await writeSecretFile(path, JSON.stringify((await createAuthority()).privateJwk));
    assert.ok((await loadAuthority(path)).kid);
    await Deno.chmod(path, 0o640);
    await rejectsWith("ERR_KEY_FILE_READABLE", () => loadAuthority(path));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("parseAuthority() refuses what is no private P-256 JWK, and never quotes it", async () => {
  const { privateJwk } = await createAuthority();
  const text = JSON.stringify(privateJwk);
  const wrong = [
    "",
    text.slice(0, -1),
    JSON.stringify({ ...privateJwk, d: undefined }),
    JSON.stringify({ ...privateJwk, crv: "P-384" }),
    JSON.stringify({ ...privateJwk, d: privateJwk.d!.slice(1) }),
    JSON.stringify({ ...privateJwk, k: "extra" }),
    JSON.stringify({ ...privateJwk, x: privateJwk.y, y: privateJwk.x }),
    JSON.stringify([privateJwk]),
  ];
  for (const each of wrong) {
    await assert.rejects(
      () => parseAuthority(each, { source: "authority.key" }),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, "ERR_IDENTITY_FILE_CORRUPT");
        assert.ok(error.message.includes("authority.key"));
        assert.ok(!Deno.inspect(error).includes(privateJwk.d!.slice(0, 12)));
        return true;
      },
      each,
    );
  }
});

Deno.test("parseAuthority() refuses a private half under another key's public half", async () => {
  const { privateJwk } = await createAuthority();
  const { publicJwk: { x, y } } = await createAuthority();
  const text = JSON.stringify({ ...privateJwk, x, y });
  await rejectsWith("ERR_IDENTITY_KEY_MISMATCH", () => parseAuthority(text, { source: "authority.key" }));
});
