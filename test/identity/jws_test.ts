/** The token form under proofs and views: RFC 7515's own example, and every other spelling refused. */

import assert from "node:assert/strict";
import { JwsError, readJwsHeader, signJws, verifyJws } from "../../src/identity/jws.ts";
import { generateKeys } from "./forge.ts";

/** RFC 7515 Appendix A.3: an ES256 signature over JSON claims. */
const EXAMPLE = {
  key: {
    kty: "EC",
    crv: "P-256",
    x: "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    y: "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
  },
  token:
    "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290" +
    "Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
};

Deno.test("verifyJws() verifies the example of the RFC [RFC7515-A.3]", async () => {
  const key = await crypto.subtle.importKey(
    "jwk",
    EXAMPLE.key,
    { name: "ECDSA", namedCurve: "P-256" },
    false,
    ["verify"],
  );
  assert.deepEqual(readJwsHeader(EXAMPLE.token), { alg: "ES256" });
  const claims = await verifyJws(EXAMPLE.token, key);
  assert.deepEqual(claims, { iss: "joe", exp: 1300819380, "http://example.com/is_root": true });
});

Deno.test("signJws() makes what verifyJws() accepts under the same key only", async () => {
  const { publicKey, privateKey } = await generateKeys();
  const token = await signJws({ a: 1 }, { key: privateKey, header: { typ: "t" } });
  assert.deepEqual(readJwsHeader(token), { typ: "t", alg: "ES256" });
  assert.deepEqual(await verifyJws(token, publicKey), { a: 1 });
  const other = await generateKeys();
  await assert.rejects(() => verifyJws(token, other.publicKey), { fault: "signature" });
});

Deno.test("verifyJws() refuses a payload that is not a JSON object", async () => {
  const { publicKey, privateKey } = await generateKeys();
  const token = await signJws([1], { key: privateKey, header: {} });
  await assert.rejects(() => verifyJws(token, publicKey), { fault: "malformed" });
});

Deno.test("readJwsHeader() refuses every other spelling [RFC7515-7.1]", () => {
  const [header, payload, signature] = EXAMPLE.token.split(".") as [string, string, string];
  const wrong = [
    "",
    "..",
    `${header}.${payload}`,
    `${header}.${payload}.${signature}.`,
    `${header}..${signature}`,
    `${header}=.${payload}.${signature}`,
    `${header}.${payload}.${signature}=`,
    ` ${header}.${payload}.${signature}`,
    `${header}.${payload}.${signature}\n`,
    `${header}.${payload}+.${signature}`,
    `${btoa("{").replaceAll("=", "")}.${payload}.${signature}`,
    `${btoa("[]")}.${payload}.${signature}`,
    `${btoa("null")}.${payload}.${signature}`,
  ];
  for (const token of wrong) {
    assert.throws(() => readJwsHeader(token), (error: unknown) => {
      return error instanceof JwsError && error.fault === "malformed";
    }, token);
  }
});
