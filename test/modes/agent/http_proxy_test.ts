import assert from "node:assert/strict";
import { utf8, utf8Decode } from "../../../src/base/bytes.ts";
import { FlowRefusedError } from "../../../src/dataplane/errors.ts";
import { handleHttpProxy } from "../../../src/modes/agent/http_proxy.ts";
import { FlowUnavailableError } from "../../../src/modes/agent/local_flow.ts";
import { needsTool, testNeeding } from "../../support/require_tool.ts";
import { type LocalService, readExactly, readToEnd, startLocalService, writeAll } from "./local_service.ts";

const CURL = needsTool("curl");
const ESTABLISHED = "HTTP/1.1 200 Connection established\r\n\r\n";

/** Sends `text` and returns everything the proxy answers until it ends the connection. */
async function ask(local: LocalService, text: string): Promise<string> {
  const client = await local.dial();
  await writeAll(client, utf8(text));
  const answer = utf8Decode(await readToEnd(client));
  client.close();
  return answer;
}

function statusOf(answer: string): number {
  return Number(/^HTTP\/1\.1 ([0-9]{3}) /.exec(answer)?.[1]);
}

/** Starts an HTTP upstream that says what it was asked. */
function startWebService(): Deno.HttpServer<Deno.NetAddr> {
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const url = new URL(request.url);
    const fields = [...request.headers].filter(([name]) => name !== "accept" && name !== "user-agent");
    return Response.json({
      method: request.method,
      path: url.pathname + url.search,
      fields: Object.fromEntries(fields),
      body: await request.text(),
    });
  });
}

Deno.test("CONNECT carries bytes, those sent early included, and half-close both ways", async () => {
  using upstream = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using local = startLocalService({ handle: handleHttpProxy, upstreamPort: upstream.addr.port });
  const client = await local.dial();
  await writeAll(
    client,
    utf8("CONNECT svc:443 HTTP/1.1\r\nHost: svc:443\r\nContent-Length: 3\r\n\r\nearly "),
  );
  const server = await upstream.accept();
  assert.equal(utf8Decode(await readExactly(client, ESTABLISHED.length)), ESTABLISHED);
  await writeAll(client, utf8("late"));
  await client.closeWrite();
  assert.equal(utf8Decode(await readToEnd(server)), "early late");
  await writeAll(server, utf8("answer"));
  server.close();
  assert.equal(utf8Decode(await readToEnd(client)), "answer");
  client.close();
  assert.deepEqual(local.targets, [{ service: "svc", port: 443 }]);
});

Deno.test("CONNECT in HTTP/1.0, one byte at a time, is served", async () => {
  using upstream = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using local = startLocalService({ handle: handleHttpProxy, upstreamPort: upstream.addr.port });
  const client = await local.dial();
  for (const byte of utf8("CONNECT svc.ginnel.internal:22 HTTP/1.0\r\n\r\n")) {
    await writeAll(client, Uint8Array.of(byte));
  }
  const server = await upstream.accept();
  assert.equal(utf8Decode(await readExactly(client, ESTABLISHED.length)), ESTABLISHED);
  client.close();
  server.close();
});

Deno.test("an absolute-form request reaches the service in origin form, content and all", async () => {
  await using upstream = startWebService();
  await using local = startLocalService({ handle: handleHttpProxy, upstreamPort: upstream.addr.port });
  const answer = await ask(
    local,
    "POST http://svc:8080/a?b HTTP/1.1\r\nHost: other\r\nProxy-Connection: keep-alive\r\n" +
      "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
  );
  assert.equal(statusOf(answer), 200);
  const { method, path, fields, body } = JSON.parse(answer.slice(answer.indexOf("\r\n\r\n") + 4));
  assert.deepEqual([method, path, body], ["POST", "/a?b", "body"]);
  assert.equal(fields.host, "svc:8080");
  assert.equal(fields.via, "1.1 ginnel");
  assert.equal(fields["proxy-connection"], undefined);
  assert.deepEqual(local.targets, [{ service: "svc", port: 8080 }]);
});

Deno.test("what a client sends after its request never reaches the service", async () => {
  using upstream = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using local = startLocalService({ handle: handleHttpProxy, upstreamPort: upstream.addr.port });
  for (const together of [true, false]) {
    const client = await local.dial();
    const first = "GET http://svc/1 HTTP/1.1\r\nHost: svc\r\n\r\n";
    const second = "GET http://other/2 HTTP/1.1\r\nHost: other\r\nCookie: secret\r\n\r\n";
    await writeAll(client, utf8(together ? first + second : first));
    const server = await upstream.accept();
    const buffer = new Uint8Array(4096);
    let seen = "";
    if (!together) {
      seen = utf8Decode(buffer.subarray(0, await server.read(buffer) ?? 0));
      await writeAll(client, utf8(second));
    }
    await assert.rejects(async () => {
      for (let count = await server.read(buffer); count !== null; count = await server.read(buffer)) {
        seen += utf8Decode(buffer.subarray(0, count));
      }
    }, Deno.errors.ConnectionReset);
    assert.ok(!seen.includes("secret"));
    server.close();
    client.close();
  }
});

Deno.test("each kind of refusal has its status, a line of text and Proxy-Status", async () => {
  const unavailable = (status: number) =>
    new FlowUnavailableError({ status, error: "http_request_denied", details: `because of "${status}"` });
  const rows: [unknown, number][] = [
    [unavailable(401), 502],
    [unavailable(403), 403],
    [unavailable(404), 404],
    [unavailable(429), 503],
    [unavailable(502), 502],
    [unavailable(503), 503],
    [unavailable(504), 504],
    [new FlowRefusedError("denied"), 403],
    [new FlowRefusedError("upstream-timeout"), 504],
    [new Error("Unforeseen"), 502],
  ];
  for (const [failure, status] of rows) {
    await using local = startLocalService({ handle: handleHttpProxy, failure });
    for (
      const request of [
        "CONNECT svc:1 HTTP/1.1\r\nHost: svc\r\n\r\n",
        "GET http://svc/ HTTP/1.1\r\nHost: svc\r\n\r\n",
      ]
    ) {
      const answer = await ask(local, request);
      assert.equal(statusOf(answer), status, String(failure));
      assert.match(answer, /\r\nProxy-Status: ginnel-agent; ?error=/i);
      assert.match(answer, /\r\nConnection: close\r\n/);
      assert.match(answer, /\r\n\r\n[A-Z][^\n]*\n$/);
    }
  }
});

Deno.test("addresses, foreign names and requests that are none are refused without asking the network", async () => {
  await using local = startLocalService({ handle: handleHttpProxy, failure: new Error("Asked") });
  const rows: [string, number][] = [
    ["CONNECT 10.0.0.1:80 HTTP/1.1\r\nHost: h\r\n\r\n", 403],
    ["CONNECT [::1]:80 HTTP/1.1\r\nHost: h\r\n\r\n", 403],
    ["GET http://127.0.0.1/ HTTP/1.1\r\nHost: h\r\n\r\n", 403],
    ["CONNECT svc HTTP/1.1\r\nHost: h\r\n\r\n", 400],
    ["GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400],
    ["GET https://svc/ HTTP/1.1\r\nHost: svc\r\n\r\n", 400],
    ["GET http://svc/ HTTP/2.0\r\nHost: svc\r\n\r\n", 505],
    [
      "POST http://svc/ HTTP/1.1\r\nHost: svc\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      400,
    ],
    [`GET http://svc/ HTTP/1.1\r\nHost: svc\r\nX: ${"y".repeat(20_000)}\r\n\r\n`, 431],
  ];
  for (const [request, status] of rows) {
    assert.equal(statusOf(await ask(local, request)), status, request.slice(0, 60));
  }
  assert.deepEqual(local.targets, []);
});

Deno.test("a client that is silent is dropped in time", async () => {
  await using local = startLocalService({
    handle: handleHttpProxy,
    failure: new Error("Asked"),
    handshakeTimeout: 20,
  });
  for (const said of ["", "CONNECT svc:1 HTTP/1.1\r\n"]) {
    const client = await local.dial();
    await writeAll(client, utf8(said));
    await assert.rejects(readToEnd(client), Deno.errors.ConnectionReset);
    client.close();
  }
});

async function curl(
  local: LocalService,
  ...args: string[]
): Promise<{ code: number; out: string; err: string }> {
  const { code, stdout, stderr } = await new Deno.Command(CURL.path, {
    args: ["-sS", "-x", `http://127.0.0.1:${local.frontEnd.address.port}`, ...args],
  }).output();
  return { code, out: utf8Decode(stdout), err: utf8Decode(stderr) };
}

testNeeding([CURL], "curl -x reaches a service by name, by absolute form and by CONNECT", async () => {
  await using upstream = startWebService();
  await using local = startLocalService({ handle: handleHttpProxy, upstreamPort: upstream.addr.port });
  for (const tunnel of [[], ["--proxytunnel"]]) {
    const { out, err } = await curl(
      local,
      ...tunnel,
      "-d",
      "body",
      "http://rtmx-sync/x?y",
      "http://rtmx-sync/second",
    );
    assert.equal(err, "");
    const answers = out.replaceAll("}{", "}\n{").split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(answers.map(({ path, body, fields }) => [path, body, fields.host]), [
      ["/x?y", "body", "rtmx-sync"],
      ["/second", "body", "rtmx-sync"],
    ]);
  }
});

testNeeding([CURL], "curl -x uploads a megabyte of chunked content", async () => {
  await using upstream = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => new Response(String((await request.bytes()).length)),
  );
  await using local = startLocalService({ handle: handleHttpProxy, upstreamPort: upstream.addr.port });
  const file = await Deno.makeTempFile();
  await Deno.writeFile(file, new Uint8Array(1 << 20));
  const { out, err } = await curl(local, "-T", file, "-H", "Transfer-Encoding: chunked", "http://svc/up");
  assert.deepEqual([out, err], [String(1 << 20), ""]);
});

testNeeding([CURL], "curl -x shows the status of a refusal", async () => {
  const failure = new FlowUnavailableError({
    status: 503,
    error: "destination_unavailable",
    details: "no connector online",
  });
  await using local = startLocalService({ handle: handleHttpProxy, failure });
  assert.equal((await curl(local, "http://svc/")).out, "No connector online\n");
  const tunnel = await curl(local, "--proxytunnel", "http://svc/");
  assert.equal(tunnel.code, 56);
  assert.match(tunnel.err, /503/);
});
