/** Which controller a command line means: whoever answers at an address must not become one by saying so. */

import assert from "node:assert/strict";
import { ControllerHttp } from "../../../src/io/controller/https_client.ts";
import { findController, parseController } from "../../../src/io/controller/find_controller.ts";
import { freePort } from "../../support/free_port.ts";
import { makeTlsFiles } from "../../support/openid_tls.ts";
import { listen, makeCa, makeTls, serve } from "./servers.ts";

const CA = await makeCa();

Deno.test("findController() does not take the network's relay, connector, agent or user for a controller", async () => {
  for (const kind of ["relay", "connector", "agent", "user"] as const) {
    await using server = listen(await makeTls(CA, { kind, name: "controller-1" }));
    await assert.rejects(() => find(server.place.url), { code: "ERR_CONTROLLER_URL" }, kind);
    assert.deepEqual(server.heard, []);
  }
});

Deno.test("findController() does not take any other HTTPS server for a controller", async () => {
  await using server = listen(await makeTlsFiles("controller-1.controller.ginnel.internal"));
  await assert.rejects(() => find(server.place.url), { code: "ERR_CONTROLLER_URL" });
  assert.deepEqual(server.heard, []);
});

Deno.test("a stranger who calls itself a controller is found out by the connection that follows", async () => {
  await using rogue = listen(
    await makeTls(await makeCa(), { name: "controller-7", shown: CA.certificatePem }),
  );
  const place = await find(rogue.place.url);
  assert.equal(place.name, "controller-7");
  using client = new ControllerHttp({ controllers: () => [place], roots: () => [CA.certificatePem] });
  await assert.rejects(() => client.request({ method: "GET", path: "/" }), {
    code: "ERR_CONTROLLER_UNREACHABLE",
  });
  assert.deepEqual(rogue.heard, []);
});

Deno.test("findController() learns the name that requests are then made by", async () => {
  await using server = serve(await makeTls(CA, { name: "eu-west" }), () => Response.json("here"));
  const place = await find(`${server.place.url}/some/path?query`);
  assert.deepEqual(place, { name: "eu-west", url: server.place.url });
  using client = new ControllerHttp({ controllers: () => [place], roots: () => [CA.certificatePem] });
  assert.equal((await client.request({ method: "GET", path: "/" })).json, "here");
});

Deno.test("findController() asks nobody when the name is given or known", async () => {
  const url = `https://127.0.0.1:${freePort()}`;
  assert.deepEqual(await find(`eu-west=${url}/`), { name: "eu-west", url });
  const known = [{ name: "other", url: "https://192.0.2.1" }, { name: "eu-west", url: `${url}/` }];
  assert.equal(await find(url, { known }), known[1]);
});

Deno.test("what is no address is refused, and findController() says when nobody is there", async () => {
  for (
    const text of ["", "controller-1", "http://127.0.0.1", "a b=https://127.0.0.1", "https://", "x=https://["]
  ) {
    assert.throws(() => parseController(text), { code: "ERR_CONTROLLER_URL" }, text);
  }
  const url = `https://127.0.0.1:${freePort()}`;
  await assert.rejects(() => find(url), { code: "ERR_CONTROLLER_UNREACHABLE" });
  const reason = new Error("told to");
  await assert.rejects(() => find(url, { signal: AbortSignal.abort(reason) }), reason);
});

function find(text: string, options: Parameters<typeof findController>[1] = {}) {
  return findController(parseController(text), options);
}
