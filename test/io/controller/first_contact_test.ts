/** First contact under attack: what a device learns from whoever answers must be what its token promised. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { fetchPinnedCa } from "../../../src/io/controller/first_contact.ts";
import { ControllerHttp } from "../../../src/io/controller/https_client.ts";
import { decodePem } from "../../../src/identity/pem.ts";
import { freePort } from "../../support/free_port.ts";
import { listen, makeCa, makeTls, serve } from "./servers.ts";

const CA = await makeCa();
const TLS = await makeTls(CA);
const PIN = pinOf(CA.certificatePem);

Deno.test("fetchPinnedCa() refuses a controller of another CA, although it has the same name", async () => {
  await using rogue = listen(await makeTls(await makeCa()));
  await assert.rejects(() => fetchPinnedCa({ controllers: [rogue.place], fingerprints: [PIN] }), {
    code: "ERR_CONTROLLER_CA_MISMATCH",
  });
  assert.deepEqual(rogue.heard, []);
});

Deno.test("a stranger who shows the network's CA is found out by the connection that follows", async () => {
  await using rogue = listen(await makeTls(await makeCa(), { shown: CA.certificatePem }));
  const controllers = [rogue.place];
  const root = await fetchPinnedCa({ controllers, fingerprints: [PIN] });
  assert.equal(pinOf(root), PIN);
  using client = new ControllerHttp({ controllers: () => controllers, roots: () => [root] });
  await assert.rejects(() => client.request({ method: "POST", path: "/", json: "token" }), {
    code: "ERR_CONTROLLER_UNREACHABLE",
  });
  assert.deepEqual(rogue.heard, []);
});

Deno.test("fetchPinnedCa() does not take the leaf, or nothing, for the CA", async () => {
  await using server = listen({ ...TLS, cert: TLS.cert.slice(0, TLS.cert.indexOf("-----END") + 25) + "\n" });
  await assert.rejects(() => fetchPinnedCa({ controllers: [server.place], fingerprints: [PIN] }), {
    code: "ERR_CONTROLLER_CA_MISMATCH",
  });
});

Deno.test("fetchPinnedCa() gets the CA from the first controller that answers, by any of the fingerprints", async () => {
  await using server = serve(TLS, () => assert.fail("nothing is asked"));
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const controllers = [
    { name: "controller-1", url: `https://127.0.0.1:${freePort()}` },
    { name: "controller-1", url: `https://127.0.0.1:${silent.addr.port}` },
    server.place,
  ];
  const options = { controllers, fingerprints: ["x", PIN], timeoutMs: 300 };
  assert.equal(await fetchPinnedCa(options), CA.certificatePem);
});

Deno.test("fetchPinnedCa() says when no controller answers, and stops when told to", async () => {
  const controllers = [{ name: "controller-1", url: `https://127.0.0.1:${freePort()}` }];
  await assert.rejects(() => fetchPinnedCa({ controllers, fingerprints: [PIN] }), {
    code: "ERR_CONTROLLER_UNREACHABLE",
  });
  const reason = new Error("told to");
  const signal = AbortSignal.abort(reason);
  await assert.rejects(() => fetchPinnedCa({ controllers, fingerprints: [PIN], signal }), reason);
});

function pinOf(pem: string): string {
  return createHash("sha256").update(decodePem("CERTIFICATE", pem)[0]!).digest("base64url");
}
