import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import { exportPrivateKey, generateKeyPair } from "../../src/identity/key_pair.ts";

Deno.test("generateKeyPair() makes P-256 keys that other software reads, each another one", async () => {
  const pems = await Promise.all(
    [1, 2].map(async () => exportPrivateKey((await generateKeyPair()).privateKey)),
  );
  for (const pem of pems) {
    const { asymmetricKeyType, asymmetricKeyDetails } = createPrivateKey(pem);
    assert.deepEqual([asymmetricKeyType, asymmetricKeyDetails?.namedCurve], ["ec", "prime256v1"]);
  }
  assert.notEqual(pems[0], pems[1]);
});
