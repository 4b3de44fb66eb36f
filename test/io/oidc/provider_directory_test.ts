/** Where a controller can be lured to when it looks for a provider's keys, and how often. */

import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { GinnelError } from "../../../src/base/errors.ts";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { ProviderDirectory, type ProviderDirectoryOptions } from "../../../src/io/oidc/provider_directory.ts";
import { OpenidProvider } from "../../support/openid_provider.ts";
import { makeTlsFiles } from "../../support/openid_tls.ts";

const MINUTE = 60_000;
const LOOPBACK = ["127.0.0.0/8"];
const ANY = { kid: undefined };

Deno.test("keys() brings the keys of a real provider, once while they are fresh", async () => {
  await using provider = await OpenidProvider.start();
  const directory = open();
  const keys = await directory.keys(provider.issuer, ANY);
  assert.deepEqual(keys.map(({ alg }) => alg), ["RS256", "ES256"]);
  assert.ok(keys.every((key) => key.d === undefined));
  await directory.keys(provider.issuer, { kid: keys[0]!.kid });
  assert.deepEqual(provider.requests, ["/.well-known/openid-configuration", "/jwks"]);
});

Deno.test("keys() follows a rotation by the new key's id", async () => {
  await using provider = await OpenidProvider.start();
  const clock = { now: 0 };
  const directory = open({ now: () => clock.now });
  await directory.keys(provider.issuer, ANY);
  for (let rotation = 0; rotation < 3; rotation++) {
    await provider.rotateKeys();
    const { kid } = provider.keys[0]!;
    assert.ok((await directory.keys(provider.issuer, { kid })).some((key) => key.kid === kid));
  }
});

Deno.test("keys() follows a rotation a minute late at worst, whatever unknown keys strangers name", async () => {
  await using provider = await OpenidProvider.start();
  const clock = { now: 0 };
  const directory = open({ now: () => clock.now });
  await directory.keys(provider.issuer, { kid: "a stranger's" });
  await provider.rotateKeys();
  const { kid } = provider.keys[0]!;
  assert.ok(!(await directory.keys(provider.issuer, { kid })).some((key) => key.kid === kid), "too soon");
  clock.now = MINUTE;
  assert.ok((await directory.keys(provider.issuer, { kid })).some((key) => key.kid === kid));
});

Deno.test("keys() is not made to fetch by a flood of unknown keys", async () => {
  await using provider = await OpenidProvider.start();
  const clock = { now: 0 };
  const directory = open({ now: () => clock.now });
  for (let i = 0; i < 300; i++) {
    clock.now += 1000;
    await directory.keys(provider.issuer, { kid: `unknown-${i}` });
  }
  const fetches = provider.requests.filter((path) => path === "/jwks").length;
  assert.ok(fetches >= 5 && fetches <= 6, `${fetches} in five minutes`);
});

Deno.test("keys() fetches once for many that ask at once", async () => {
  await using provider = await OpenidProvider.start();
  const directory = open();
  await Promise.all(
    Array.from({ length: 100 }, (_, i) => directory.keys(provider.issuer, { kid: `x-${i}` })),
  );
  assert.equal(provider.requests.filter((path) => path === "/jwks").length, 1);
});

Deno.test("keys() keeps old keys for a time when the provider is away, and asks at intervals", async () => {
  await using provider = await OpenidProvider.start();
  const clock = { now: 0 };
  const directory = open({ now: () => clock.now });
  await directory.keys(provider.issuer, ANY);
  provider.intercept = (_request, response) => (response.writeHead(500).end(), true);
  provider.requests.length = 0;
  clock.now = 2 * 60 * MINUTE;
  for (let i = 0; i < 50; i++) assert.equal((await directory.keys(provider.issuer, ANY)).length, 2);
  assert.equal(provider.requests.length, 1);
  clock.now = 14 * 60 * MINUTE;
  await assert.rejects(() => directory.keys(provider.issuer, ANY), isError("ERR_OIDC_PROVIDER"));
  provider.intercept = () => false;
  clock.now += MINUTE;
  assert.equal((await directory.keys(provider.issuer, ANY)).length, 2);
});

Deno.test("keys() honours Cache-Control within its bounds", async () => {
  for (
    const [header, fresh] of [["max-age=1", 5], ["max-age=1800", 30], ["public, max-age=99999999", 24 * 60]]
  ) {
    await using server = await Rogue.start();
    const clock = { now: 0 };
    server.headers = { "cache-control": String(header) };
    const directory = open({ now: () => clock.now });
    await directory.keys(server.issuer, ANY);
    clock.now = Number(fresh) * MINUTE - 1;
    await directory.keys(server.issuer, ANY);
    assert.equal(server.count("/jwks"), 1, `${header}: too soon`);
    clock.now++;
    await directory.keys(server.issuer, ANY);
    assert.equal(server.count("/jwks"), 2, `${header}: too late`);
  }
});

Deno.test("keys() gives up on a provider that never answers, or never ends", async () => {
  await using server = await Rogue.start();
  server.answers.set("/jwks", () => {});
  const directory = open({ timeoutMs: 100 });
  await failsWith(/Not done within 100 ms/, () => directory.keys(server.issuer, ANY));
  await using dripping = await Rogue.start();
  dripping.answers.set("/jwks", (_request, response) => {
    response.writeHead(200);
    response.write(`{"keys":[`);
  });
  await failsWith(/Not done within 100 ms/, () => open({ timeoutMs: 100 }).keys(dripping.issuer, ANY));
  const silent = open({ timeoutMs: 100, resolve: () => new Promise(() => {}) });
  await failsWith(/Not done within 100 ms/, () => silent.keys("https://id.example.com", ANY));
});

Deno.test("keys() stops reading a key set that is too large", async () => {
  await using server = await Rogue.start();
  let sent = 0;
  server.answers.set("/jwks", (_request, response) => {
    response.writeHead(200);
    const chunk = new Uint8Array(65_536).fill(0x20);
    const more = () => {
      if (response.destroyed || sent > 256 * chunk.length) return void response.end();
      sent += chunk.length;
      if (response.write(chunk)) queueMicrotask(more);
      else response.once("drain", more);
    };
    more();
  });
  await failsWith(/more than 262144 bytes/, () => open().keys(server.issuer, ANY));
});

Deno.test("keys() follows no redirect", async () => {
  for (const status of [301, 302, 303, 307, 308]) {
    await using elsewhere = await Rogue.start();
    await using server = await Rogue.start();
    server.answers.set("/jwks", (_request, response) => {
      response.writeHead(status, { location: `${elsewhere.issuer}/jwks` }).end();
    });
    await failsWith(new RegExp(`status ${status}`), () => open().keys(server.issuer, ANY));
    assert.equal(elsewhere.requests.length, 0);
  }
});

Deno.test("keys() does not go where the provider's metadata points inside", async () => {
  await using inside = await Rogue.start();
  const { port } = new URL(inside.issuer);
  for (
    const jwksUri of [
      "http://169.254.169.254/latest/meta-data",
      "https://10.0.0.1/jwks",
      "https://[::ffff:10.0.0.1]/jwks",
      "https://[fd00::1]/jwks",
      "https://[fe80::1]/jwks",
      "https://[64:ff9b::a00:1]/jwks",
      "https://[2002:a00:1::]/jwks",
      "https://0x0a000001/jwks",
      "https://167772161/jwks",
      "https://0/jwks",
      "https://100.64.0.1/jwks",
      "https://metadata.internal/jwks",
      `http://[::1]:${port}/jwks`,
      `http://2130706434:${port}/jwks`,
      "http://8.8.8.8/jwks",
      "file:///etc/passwd",
      "data:application/json,{}",
      "https://user:password@id.example.com/",
    ]
  ) {
    await using server = await Rogue.start();
    server.metadata.jwks_uri = jwksUri;
    // Only the provider's own address is allowed, not 127.0.0.2.
    const directory = open({
      allowPrivate: ["127.0.0.1"],
      resolve: () => Promise.resolve(["10.0.0.1", "::1"]),
    });
    await failsWith(/ERR_OIDC_ADDRESS/, () => directory.keys(server.issuer, ANY), jwksUri);
  }
  assert.equal(inside.requests.length, 0);
});

Deno.test("keys() judges a name by its addresses, and does not reach loopback unless it is allowed", async () => {
  await using server = await Rogue.start();
  const { port } = new URL(server.issuer);
  await failsWith(/ERR_OIDC_ADDRESS/, () => open({ allowPrivate: [] }).keys(server.issuer, ANY));
  const byName = `http://localhost:${port}`;
  await failsWith(/ERR_OIDC_ADDRESS/, () => open({ allowPrivate: ["10.0.0.0/8"] }).keys(byName, ANY));
  assert.equal(server.requests.length, 0);
});

Deno.test("keys() connects to the address that it judged, whatever the name resolves to next", async () => {
  await using server = await Rogue.start();
  const { port } = new URL(server.issuer);
  const host = "rebinding.example";
  server.name = `http://${host}:${port}`;
  const asked: string[] = [];
  // The first answer is fine; the second, by which a client that asks again would connect, is not.
  const resolve = (name: string) => {
    asked.push(name);
    return Promise.resolve(asked.length % 2 === 1 ? ["127.0.0.1"] : ["10.0.0.1"]);
  };
  const directory = open({ resolve, allowPrivate: ["127.0.0.1"] });
  await failsWith(/ERR_OIDC_ADDRESS/, () => directory.keys(server.issuer, ANY));
  assert.deepEqual(server.requests, ["/.well-known/openid-configuration"]);
  assert.deepEqual(asked, [host, host]);
});

Deno.test("keys() uses only those of a name's addresses that may be reached", async () => {
  await using server = await Rogue.start();
  server.name = `http://mixed.example:${new URL(server.issuer).port}`;
  const directory = open({ resolve: () => Promise.resolve(["10.0.0.1", "127.0.0.1"]) });
  assert.equal((await directory.keys(server.issuer, ANY)).length, 1);
});

Deno.test("keys() wants the issuer's own metadata, and a key set", async () => {
  const broken: [string, unknown][] = [
    ["/.well-known/openid-configuration", { issuer: "https://other.example", jwks_uri: "https://x/" }],
    ["/.well-known/openid-configuration", []],
    ["/jwks", []],
    ["/jwks", { keys: {} }],
    ["/jwks", { keys: new Array(65).fill({}) }],
  ];
  for (const [path, body] of broken) {
    await using server = await Rogue.start();
    server.answers.set(path, (_request, response) => response.end(JSON.stringify(body)));
    await assert.rejects(() => open().keys(server.issuer, ANY), isError("ERR_OIDC_PROVIDER"));
  }
  await using server = await Rogue.start();
  server.answers.set("/jwks", (_request, response) => response.end("not JSON"));
  await failsWith(/does not answer with JSON/, () => open().keys(server.issuer, ANY));
});

Deno.test("keys() leaves out what is no public key", async () => {
  await using server = await Rogue.start();
  server.keys = [{ kty: "oct", k: "AAAA" }, null, "x", {
    kty: "EC",
    crv: "P-256",
    x: "a",
    y: "b",
    d: "secret",
  }];
  assert.deepEqual(await open().keys(server.issuer, ANY), [{ kty: "EC", crv: "P-256", x: "a", y: "b" }]);
});

Deno.test("keys() verifies a provider's certificate against the name in its issuer", async () => {
  const tls = await makeTlsFiles("localhost");
  await using provider = await OpenidProvider.start({ tls });
  const roots = [tls.root];
  assert.equal((await open({ roots }).keys(provider.issuer, ANY)).length, 2);
  await failsWith(/unable to verify|UnknownIssuer/i, () => open().keys(provider.issuer, ANY));
  const byAddress = provider.issuer.replace("localhost", "127.0.0.1");
  await failsWith(/altname|NotValidForName/i, () => open({ roots }).keys(byAddress, ANY));
});

function open(options: Partial<ProviderDirectoryOptions> = {}): ProviderDirectory {
  return new ProviderDirectory({ logger: SILENT_LOGGER, allowPrivate: LOOPBACK, ...options });
}

function isError(code: string) {
  return (error: unknown) => error instanceof GinnelError && error.code === code;
}

/** The reason is the failure's cause. */
async function failsWith(pattern: RegExp, task: () => Promise<unknown>, label?: string): Promise<void> {
  await assert.rejects(task, (error: unknown) => {
    assert.ok(error instanceof GinnelError && error.code === "ERR_OIDC_PROVIDER", `${label}: ${error}`);
    const cause = error.cause as GinnelError;
    assert.match(`${cause.code} ${cause.message}`, pattern, label);
    return true;
  });
}

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

/** A provider that does as each test says. */
class Rogue implements AsyncDisposable {
  readonly requests: string[] = [];
  readonly answers = new Map<string, Answer>();
  readonly metadata: Record<string, unknown> = {};
  headers: Record<string, string> = {};
  keys: unknown[] = [{ kty: "OKP", crv: "Ed25519", x: "AA" }];
  readonly #server = createServer((request, response) => this.#handle(request, response));
  #name = "";

  static async start(): Promise<Rogue> {
    const rogue = new Rogue();
    await new Promise<void>((resolve) => rogue.#server.listen(0, "127.0.0.1", resolve));
    rogue.name = `http://127.0.0.1:${(rogue.#server.address() as AddressInfo).port}`;
    return rogue;
  }

  get issuer(): string {
    return this.#name;
  }

  set name(name: string) {
    this.#name = name;
    this.metadata.issuer = name;
    this.metadata.jwks_uri = `${name}/jwks`;
  }

  count(path: string): number {
    return this.requests.filter((request) => request === path).length;
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url!;
    this.requests.push(path);
    const answer = this.answers.get(path);
    if (answer !== undefined) return answer(request, response);
    response.writeHead(200, this.headers);
    response.end(JSON.stringify(path === "/jwks" ? { keys: this.keys } : this.metadata));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
