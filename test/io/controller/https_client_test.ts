/** A client of controllers under attack, and with controllers that are away: real TLS throughout. */

import assert from "node:assert/strict";
import { serverName } from "../../../src/identity/spiffe_id.ts";
import { ControllerHttp, type ControllerRequest } from "../../../src/io/controller/https_client.ts";
import { eventually } from "../../support/eventually.ts";
import { freePort } from "../../support/free_port.ts";
import { listen, makeCa, makeTls, serve, type TestServer, type TlsFiles } from "./servers.ts";

const CA = await makeCa();
const TLS = await makeTls(CA);
const SECOND_TLS = await makeTls(CA, { name: "controller-2" });
const SECRET: ControllerRequest = { method: "POST", path: "/x", json: { token: "secret" } };

Deno.test("ControllerHttp says nothing to a server that cannot show the controller's certificate", async () => {
  const stranger = await makeCa();
  const wrong: Readonly<Record<string, TlsFiles>> = {
    "another CA of the same name": await makeTls(stranger),
    "another CA that shows the network's CA too": await makeTls(stranger, { shown: CA.certificatePem }),
    "a relay of the network": await makeTls(CA, { kind: "relay" }),
    "an agent of the network": await makeTls(CA, { kind: "agent" }),
    "another controller of the network": SECOND_TLS,
  };
  for (const [who, tls] of Object.entries(wrong)) {
    await using server = listen(tls);
    using client = clientOf([server], { authorization: () => Promise.resolve("proof") });
    for (const request of [SECRET, { method: "GET", path: "/x" } as const]) {
      await assert.rejects(() => client.request(request), { code: "ERR_CONTROLLER_UNREACHABLE" }, who);
    }
    await assert.rejects(() => client.lines({ method: "GET", path: "/x" }), {
      code: "ERR_CONTROLLER_UNREACHABLE",
    });
    assert.deepEqual(server.heard, [], who);
  }
});

Deno.test("ControllerHttp speaks plain HTTP to nobody", async () => {
  await using server = serve(TLS, () => new Response());
  const place = { name: "controller-1", url: server.place.url.replace("https:", "http:") };
  using client = clientOf([{ place }]);
  // Whatever the URL says, the connection is TLS.
  assert.equal((await client.request({ method: "GET", path: "/x" })).status, 200);
});

Deno.test("ControllerHttp refuses an answer without end, a line without end, and what is not JSON", async () => {
  const chunk = new Uint8Array(1 << 20).fill(0x20);
  let chunks = 0;
  const endless = () =>
    new ReadableStream({
      pull(controller) {
        chunks++;
        controller.enqueue(chunk);
      },
    });
  const json = { "content-type": "application/json" };
  await using server = serve(
    TLS,
    ({ url }) =>
      url.endsWith("/endless")
        ? new Response(endless(), { headers: json })
        : new Response("{oops", { headers: json }),
  );
  using client = clientOf([server]);
  await assert.rejects(() => client.request({ method: "GET", path: "/endless" }), {
    code: "ERR_CONTROLLER_ANSWER",
  });
  const { lines } = await client.lines({ method: "GET", path: "/endless" }, { maxLineLength: 4 << 20 });
  await assert.rejects(async () => {
    for await (const _line of lines) assert.fail("there is no line");
  }, { code: "ERR_CONTROLLER_ANSWER" });
  assert.ok(chunks < 64, String(chunks));
  await assert.rejects(() => client.request({ method: "GET", path: "/oops" }), {
    code: "ERR_CONTROLLER_ANSWER",
  });
});

Deno.test("ControllerHttp follows no redirect: its secrets go where they were meant for", async () => {
  await using other = listen(await makeTls(CA), { answer: "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" });
  await using server = serve(TLS, () => Response.redirect(`${other.place.url}/x`, 307));
  using client = clientOf([server]);
  assert.equal((await client.request(SECRET)).status, 307);
  assert.deepEqual(other.heard, []);
});

Deno.test("ControllerHttp sends JSON, its bearer for this controller, and reads answers of any status", async () => {
  await using server = serve(TLS, async (request) =>
    Response.json({
      bearer: request.headers.get("authorization"),
      method: request.method,
      path: new URL(request.url).pathname,
      body: await request.text(),
    }, { status: 418, headers: { etag: '"7"', "content-type": "application/problem+json" } }));
  let count = 0;
  using client = clientOf([server], { authorization: (to) => Promise.resolve(`${to}-${++count}`) });
  const json = { text: "snow ☃" };
  const audience = serverName("controller", "controller-1");
  for (const bearer of [`${audience}-1`, `${audience}-2`]) {
    const { status, headers, json: answer, controller } = await client.request({
      method: "POST",
      path: "/v1/a?b=c",
      json,
    });
    assert.equal(status, 418);
    assert.equal(headers.etag, '"7"');
    assert.equal(controller, "controller-1");
    assert.deepEqual(answer, {
      bearer: `Bearer ${bearer}`,
      method: "POST",
      path: "/v1/a",
      body: JSON.stringify(json),
    });
  }
});

Deno.test("ControllerHttp asks the next controller when one is down, silent, or not one, and stays with it", async () => {
  await using second = serve(SECOND_TLS, () => Response.json({}), "controller-2");
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using rogue = listen(await makeTls(await makeCa()));
  const places = {
    down: `https://127.0.0.1:${freePort()}`,
    silent: `https://127.0.0.1:${silent.addr.port}`,
    rogue: rogue.place.url,
  };
  for (const [what, url] of Object.entries(places)) {
    using client = clientOf([{ place: { name: "controller-1", url } }, second], { connectTimeoutMs: 300 });
    for (const method of ["POST", "GET"] as const) {
      assert.equal((await client.request({ method, path: "/" })).controller, "controller-2", what);
    }
    const before = performance.now();
    await client.request({ method: "POST", path: "/" });
    assert.ok(performance.now() - before < 250, "it asked the one that is away again");
  }
});

Deno.test("ControllerHttp does not repeat to another controller what the first may have done", async () => {
  await using first = listen(TLS);
  let count = 0;
  await using second = serve(SECOND_TLS, () => {
    count++;
    return Response.json({});
  }, "controller-2");
  using client = clientOf([first, second]);
  await assert.rejects(() => client.request(SECRET), { code: "ERR_CONTROLLER_LOST" });
  assert.match(first.heard.join(), /secret/);
  assert.equal(count, 0);
  assert.equal((await client.request({ method: "PUT", path: "/x" })).controller, "controller-2");
  using other = clientOf([first, second]);
  assert.equal((await other.request({ ...SECRET, repeatable: true })).controller, "controller-2");
  assert.equal(count, 2);
});

Deno.test("ControllerHttp does not take a refusal for a fault: the next controller is not asked", async () => {
  await using first = serve(TLS, () => new Response(null, { status: 500 }));
  await using second = listen(SECOND_TLS, { name: "controller-2" });
  using client = clientOf([first, second]);
  assert.equal((await client.request({ method: "GET", path: "/" })).status, 500);
  assert.deepEqual(second.heard, []);
});

Deno.test("ControllerHttp asks the next controller when one cannot now, unless that could do a thing twice", async () => {
  let status = 200;
  await using first = serve(TLS, () => new Response(null, { status: 503 }));
  await using second = serve(SECOND_TLS, () => new Response(null, { status }), "controller-2");
  using client = clientOf([first, second]);
  const controllerOf = async (method: "GET" | "POST", repeatable?: boolean) => {
    const { status, controller } = await client.request({
      ...{ method, path: "/" },
      ...(repeatable === undefined ? {} : { repeatable }),
    });
    return `${status} ${controller}`;
  };
  assert.equal(await controllerOf("POST"), "503 controller-1");
  assert.equal((await client.lines({ method: "GET", path: "/" })).controller, "controller-2");
  assert.equal(await controllerOf("POST"), "200 controller-2");
  status = 503;
  // Neither can: the answer of the one that is asked first.
  assert.equal(await controllerOf("GET"), "503 controller-2");
  assert.equal(await controllerOf("POST", true), "503 controller-2");
  await second[Symbol.asyncDispose]();
  assert.equal(await controllerOf("GET"), "503 controller-1");
});

Deno.test("ControllerHttp survives a controller's restart: kept connections are not trusted to live", async () => {
  const port = freePort();
  const place = { name: "controller-1", url: `https://127.0.0.1:${port}` };
  using client = clientOf([{ place }]);
  for (let round = 0; round < 2; round++) {
    const server = Deno.serve(
      { hostname: "127.0.0.1", port, ...TLS, onListen() {} },
      () => Response.json(round),
    );
    for (const method of ["GET", "POST", "GET"] as const) {
      assert.equal((await client.request({ method, path: "/" })).json, round);
    }
    await server.shutdown();
  }
});

Deno.test("ControllerHttp trusts a CA from when it is given until it is taken away", async () => {
  const next = await makeCa();
  await using server = serve(await makeTls(next), () => Response.json({}));
  let roots = [CA.certificatePem];
  using client = new ControllerHttp({ controllers: () => [server.place], roots: () => roots });
  const ask = () => client.request({ method: "GET", path: "/" });
  await assert.rejects(ask, { code: "ERR_CONTROLLER_UNREACHABLE" });
  roots = [CA.certificatePem, next.certificatePem];
  assert.equal((await ask()).status, 200);
  roots = [CA.certificatePem];
  await assert.rejects(ask, { code: "ERR_CONTROLLER_UNREACHABLE" });
});

Deno.test("ControllerHttp gives up after its time, when told to, and where no controller is known", async () => {
  const waiting = Promise.withResolvers<void>();
  let requests = 0;
  await using server = serve(TLS, async () => {
    requests++;
    await waiting.promise;
    return new Response();
  });
  try {
    using client = clientOf([server], { timeoutMs: 200 });
    await assert.rejects(() => client.request({ method: "GET", path: "/" }), /no answer within 200 ms/);
    const ending = new AbortController();
    const reason = new Error("told to");
    using patient = clientOf([server]);
    const asked = patient.request({ method: "GET", path: "/", signal: ending.signal });
    await Promise.all([
      assert.rejects(asked, reason),
      eventually(() => requests >= 2).then(() => ending.abort(reason)),
    ]);
  } finally {
    waiting.resolve();
  }
  using nobody = clientOf([]);
  await assert.rejects(() => nobody.request({ method: "GET", path: "/" }), {
    code: "ERR_CONTROLLER_UNKNOWN",
  });
});

Deno.test("lines() gives each line as it comes, however it is cut, and ends when told to", async () => {
  const parts = ["one\ntw", "o\n\nthr", "ee ☃\n"].map((part) => new TextEncoder().encode(part));
  let sender!: ReadableStreamDefaultController<Uint8Array>;
  await using server = serve(TLS, () =>
    new Response(
      new ReadableStream({
        start(controller) {
          sender = controller;
          for (const part of parts) controller.enqueue(part);
        },
      }),
    ));
  using client = clientOf([server], { timeoutMs: 250 });
  const ending = new AbortController();
  const { status, lines } = await client.lines({ method: "GET", path: "/", signal: ending.signal });
  assert.equal(status, 200);
  const iterator = lines[Symbol.asyncIterator]();
  for (const wanted of ["one", "two", "", "three ☃"]) assert.equal((await iterator.next()).value, wanted);
  // The time for an answer's head passes; the stream goes on.
  const asked = performance.now();
  await eventually(() => performance.now() > asked + 300);
  sender.enqueue(new TextEncoder().encode("four\nhalf"));
  assert.equal((await iterator.next()).value, "four");
  const next = iterator.next();
  const reason = new Error("told to");
  ending.abort(reason);
  await assert.rejects(next, reason);
});

Deno.test("lines() tells a connection that broke from a stream that ended, and reads a refusal", async () => {
  const head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
  await using broken = listen(TLS, { answer: `${head}4\r\none\n\r\n` });
  using client = clientOf([broken]);
  const seen: string[] = [];
  await assert.rejects(async () => {
    const { lines } = await client.lines({ method: "GET", path: "/" });
    for await (const line of lines) seen.push(line);
  }, { code: "ERR_CONTROLLER_LOST" });
  assert.deepEqual(seen, ["one"]);
  await using ended = listen(TLS, { answer: `${head}4\r\none\n\r\n0\r\n\r\n` });
  using other = clientOf([ended]);
  for await (const line of (await other.lines({ method: "GET", path: "/" })).lines) seen.push(line);
  assert.deepEqual(seen, ["one", "one"]);
  await using refusing = serve(TLS, () => Response.json({ title: "no" }, { status: 403 }));
  using third = clientOf([refusing]);
  const { status, json } = await third.lines({ method: "GET", path: "/" });
  assert.deepEqual([status, json], [403, { title: "no" }]);
});

function clientOf(
  servers: readonly Pick<TestServer, "place">[],
  options: Partial<ConstructorParameters<typeof ControllerHttp>[0]> = {},
): ControllerHttp {
  return new ControllerHttp({
    controllers: () => servers.map(({ place }) => place),
    roots: () => [CA.certificatePem],
    ...options,
  });
}
