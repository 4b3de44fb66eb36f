import assert from "node:assert/strict";
import { concat, utf8, utf8Decode } from "../../../src/base/bytes.ts";
import { FlowRefusedError } from "../../../src/dataplane/errors.ts";
import { FlowUnavailableError } from "../../../src/modes/agent/local_flow.ts";
import { handleSocks5 } from "../../../src/modes/agent/socks5.ts";
import { SOCKS_REPLY } from "../../../src/wire/socks5.ts";
import { needsTool, testNeeding } from "../../support/require_tool.ts";
import { type LocalService, readExactly, readToEnd, startLocalService, writeAll } from "./local_service.ts";

const CURL = needsTool("curl");
const GREETING = Uint8Array.of(5, 1, 0);

function connectTo(host: string, port = 80): Uint8Array {
  const name = utf8(host);
  return concat([Uint8Array.of(5, 1, 0, 3, name.length), name, Uint8Array.of(port >> 8, port & 255)]);
}

/** Sends `bytes` and returns everything the proxy answers until it ends the connection. */
async function ask(local: LocalService, ...bytes: Uint8Array[]): Promise<number[]> {
  const client = await local.dial();
  await writeAll(client, concat(bytes));
  const answer = await readToEnd(client);
  client.close();
  return [...answer];
}

const refusal = (reply: number) => [5, 0, 5, reply, 0, 1, 0, 0, 0, 0, 0, 0];

Deno.test("SOCKS: a flow by name carries bytes, those sent early included, and half-close both ways", async () => {
  using upstream = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using local = startLocalService({ handle: handleSocks5, upstreamPort: upstream.addr.port });
  for (const host of ["rtmx-sync", "RTMX-Sync.ginnel.internal", "rtmx-sync.ginnel.internal."]) {
    const client = await local.dial();
    await writeAll(client, concat([GREETING, connectTo(host, 443), utf8("early ")]));
    const server = await upstream.accept();
    assert.deepEqual([...await readExactly(client, 12)], refusal(SOCKS_REPLY.succeeded));
    await writeAll(client, utf8("late"));
    await client.closeWrite();
    assert.equal(utf8Decode(await readToEnd(server)), "early late");
    await writeAll(server, utf8("answer"));
    server.close();
    assert.equal(utf8Decode(await readToEnd(client)), "answer");
    client.close();
    assert.deepEqual(local.targets.pop(), { service: "rtmx-sync", port: 443 });
  }
});

Deno.test("SOCKS: a client that sends one byte at a time is served", async () => {
  using upstream = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using local = startLocalService({ handle: handleSocks5, upstreamPort: upstream.addr.port });
  const client = await local.dial();
  for (const byte of concat([GREETING, connectTo("svc")])) await writeAll(client, Uint8Array.of(byte));
  const server = await upstream.accept();
  assert.deepEqual([...await readExactly(client, 12)], refusal(SOCKS_REPLY.succeeded));
  client.close();
  server.close();
});

Deno.test("SOCKS: each kind of refusal has its reply", async () => {
  const unavailable = (status: number) => new FlowUnavailableError({ status, error: "", details: "no" });
  const rows: [unknown, number][] = [
    [unavailable(401), SOCKS_REPLY.generalFailure],
    [unavailable(403), SOCKS_REPLY.notAllowed],
    [unavailable(404), SOCKS_REPLY.hostUnreachable],
    [unavailable(429), SOCKS_REPLY.generalFailure],
    [unavailable(502), SOCKS_REPLY.connectionRefused],
    [unavailable(503), SOCKS_REPLY.networkUnreachable],
    [unavailable(504), SOCKS_REPLY.ttlExpired],
    [new FlowRefusedError("denied"), SOCKS_REPLY.notAllowed],
    [new FlowRefusedError("upstream-refused"), SOCKS_REPLY.connectionRefused],
    [new FlowRefusedError("upstream-timeout"), SOCKS_REPLY.ttlExpired],
    [new Error("Unforeseen"), SOCKS_REPLY.connectionRefused],
  ];
  for (const [failure, reply] of rows) {
    await using local = startLocalService({ handle: handleSocks5, failure });
    assert.deepEqual(
      await ask(local, GREETING, connectTo("svc"), utf8("never read")),
      refusal(reply),
      String(failure),
    );
  }
});

Deno.test("SOCKS: addresses and foreign names are refused without asking the network", async () => {
  await using local = startLocalService({ handle: handleSocks5, failure: new Error("Asked") });
  const requests = [
    connectTo("10.0.0.1"),
    connectTo("::1"),
    connectTo("UPPER case!"),
    connectTo("a..b"),
    Uint8Array.of(5, 1, 0, 1, 127, 0, 0, 1, 0, 80),
    Uint8Array.of(5, 1, 0, 4, ...new Uint8Array(16), 0, 80),
  ];
  for (const request of requests) {
    const [, , , reply] = (await ask(local, GREETING, request)).values();
    assert.ok(reply === SOCKS_REPLY.notAllowed || reply === SOCKS_REPLY.generalFailure, `reply ${reply}`);
  }
  assert.deepEqual(local.targets, []);
});

Deno.test("SOCKS: unsupported methods, commands and address types get the RFC's answers [RFC1928-3]", async () => {
  await using local = startLocalService({ handle: handleSocks5, failure: new Error("Asked") });
  assert.deepEqual(await ask(local, Uint8Array.of(5, 2, 1, 2)), [5, 0xff]);
  assert.deepEqual(
    await ask(local, GREETING, Uint8Array.of(5, 2, 0, 1)),
    refusal(SOCKS_REPLY.commandNotSupported),
  );
  assert.deepEqual(
    await ask(local, GREETING, Uint8Array.of(5, 4, 0, 1)),
    refusal(SOCKS_REPLY.commandNotSupported),
  );
  assert.deepEqual(
    await ask(local, GREETING, Uint8Array.of(5, 1, 0, 9)),
    refusal(SOCKS_REPLY.addressTypeNotSupported),
  );
});

Deno.test("SOCKS: other protocols and clients that leave are dropped without an answer", async () => {
  await using local = startLocalService({ handle: handleSocks5, failure: new Error("Asked") });
  const web = await local.dial();
  await writeAll(web, utf8("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"));
  await assert.rejects(web.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
  web.close();
  const leaver = await local.dial();
  await writeAll(leaver, Uint8Array.of(5, 1));
  await leaver.closeWrite();
  await assert.rejects(leaver.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
  leaver.close();
});

Deno.test("SOCKS: a client that is silent is dropped in time", async () => {
  await using local = startLocalService({
    handle: handleSocks5,
    failure: new Error("Asked"),
    handshakeTimeout: 20,
  });
  for (
    const said of [new Uint8Array(), Uint8Array.of(5), concat([GREETING, Uint8Array.of(5, 1, 0, 3, 200)])]
  ) {
    const client = await local.dial();
    await writeAll(client, said);
    await assert.rejects(readToEnd(client), Deno.errors.ConnectionReset);
    client.close();
  }
});

testNeeding([CURL], "SOCKS: curl --socks5-hostname reaches a service by name", async () => {
  await using upstream = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) =>
      new Response(`${request.method} ${request.headers.get("host")} ${await request.text()}`),
  );
  await using local = startLocalService({ handle: handleSocks5, upstreamPort: upstream.addr.port });
  const { stdout } = await new Deno.Command(CURL.path, {
    args: [
      "-sS",
      "--socks5-hostname",
      `127.0.0.1:${local.frontEnd.address.port}`,
      "-d",
      "body",
      "http://rtmx-sync/x",
    ],
  }).output();
  assert.equal(utf8Decode(stdout), "POST rtmx-sync body");
  assert.deepEqual(local.targets, [{ service: "rtmx-sync", port: 80 }]);
});

testNeeding([CURL], "SOCKS: curl says that an unknown service cannot be reached", async () => {
  const failure = new FlowUnavailableError({ status: 404, error: "destination_not_found", details: "no" });
  await using local = startLocalService({ handle: handleSocks5, failure });
  const { code, stderr } = await new Deno.Command(CURL.path, {
    args: ["-sS", "--socks5-hostname", `127.0.0.1:${local.frontEnd.address.port}`, "http://nothing/"],
  }).output();
  assert.equal(code, 97);
  assert.match(utf8Decode(stderr), /\(4\)/);
});
