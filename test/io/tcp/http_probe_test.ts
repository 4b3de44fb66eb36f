/** One HTTP request that asks whether a service is well. */

import assert from "node:assert/strict";
import { type HttpProbe, portOf, probeHttp } from "../../../src/io/tcp/http_probe.ts";

type Handler = (request: Request) => Response | Promise<Response>;

async function probe(
  handler: Handler,
  options: Partial<HttpProbe> & { readonly path?: string } = {},
): Promise<void> {
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, handler);
  await probeHttp({
    url: new URL(`http://nowhere.invalid:${server.addr.port}${options.path ?? "/"}`),
    address: "127.0.0.1",
    method: "GET",
    expectStatus: 200,
    signal: AbortSignal.timeout(5_000),
    ...options,
  });
}

Deno.test("a redirect is an answer, and is not followed", async () => {
  const asked: string[] = [];
  await assert.rejects(
    probe((request) => {
      asked.push(new URL(request.url).pathname);
      return new Response(null, { status: 302, headers: { location: "/elsewhere" } });
    }),
    { code: "ERR_UPSTREAM_UNHEALTHY", message: "GET / was answered 302, not 200" },
  );
  assert.deepEqual(asked, ["/"]);
});

Deno.test("an answer that never ends is searched no further than its first mebibyte", async () => {
  const endless = () =>
    new Response(
      new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(65_536).fill(0x61)) }),
    );
  await assert.rejects(probe(endless, { expectInBody: "b" }), {
    message: "GET / was answered without the expected text",
  });
});

Deno.test("an answer that does not come ends with the signal", async () => {
  const released = Promise.withResolvers<void>();
  const ending = new AbortController();
  const result = probe(async () => {
    ending.abort(new Error("enough"));
    await released.promise;
    return new Response();
  }, { signal: ending.signal });
  // The server waits for its handlers when it is disposed.
  ending.signal.addEventListener("abort", () => released.resolve());
  await assert.rejects(result, { message: "enough" });
});

Deno.test("the request carries method, body, path and the host asked for", async () => {
  let seen: unknown;
  await probe(async (request) => {
    const { pathname, search } = new URL(request.url);
    seen = [
      request.method,
      pathname + search,
      request.headers.get("host")?.split(":")[0],
      await request.text(),
    ];
    return new Response("all is well here", { status: 201 });
  }, { method: "POST", body: "pîng", path: "/a?b=c", expectStatus: 201, expectInBody: "well" });
  assert.deepEqual(seen, ["POST", "/a?b=c", "nowhere.invalid", "pîng"]);
});

Deno.test("nothing that listens is a failure", async () => {
  const url = new URL("http://127.0.0.1:1/");
  const options = {
    url,
    address: "127.0.0.1",
    method: "GET",
    expectStatus: 200,
    signal: AbortSignal.timeout(5_000),
  };
  await assert.rejects(probeHttp(options), { code: "ECONNREFUSED" });
});

Deno.test("a URL without a port means its scheme's", () => {
  assert.deepEqual(["http://x/", "https://x/", "https://x:80/"].map((url) => portOf(new URL(url))), [
    80,
    443,
    80,
  ]);
});
