/** Logins as a device makes them, at a real provider, by a browser that is driven page by page. */

import assert from "node:assert/strict";
import { decodeJwt } from "jose";
import { GinnelError } from "../../../src/base/errors.ts";
import { OpenidClient } from "../../../src/io/oidc/openid_client.ts";
import { OpenidProvider, type OpenidProviderOptions } from "../../support/openid_provider.ts";
import { makeTlsFiles } from "../../support/openid_tls.ts";

const ALICE = { sub: "alice", preferred_username: "Alice", groups: ["dev"] };

Deno.test("[RFC8252-8.1] [RFC8252-8.3] loginByBrowser() logs in with PKCE, a state and the nonce", async () => {
  await using provider = await start();
  using client = open(provider);
  const asked: URL[] = [];
  const tokens = await login(client, provider, { seen: (url) => asked.push(new URL(url)) });
  const { nonce, sub, groups } = decodeJwt(tokens.idToken);
  assert.deepEqual({ nonce, sub, groups }, { nonce: "n-1", sub: "alice", groups: ["dev"] });
  assert.ok(tokens.refreshToken !== undefined);
  const { searchParams } = asked[0]!;
  assert.equal(searchParams.get("code_challenge_method"), "S256");
  assert.match(searchParams.get("redirect_uri")!, /^http:\/\/127\.0\.0\.1:\d+\/callback$/);
  assert.ok(searchParams.get("state")!.length >= 32);
});

Deno.test("loginByBrowser() takes no answer without its state, whoever sends it first", async () => {
  await using provider = await start();
  using client = open(provider);
  const statuses: number[] = [];
  const tokens = await login(client, provider, {
    before: async (callback) => {
      const forged = new URL(callback);
      forged.searchParams.set("code", "an attacker's");
      for (const state of ["", "x"]) {
        forged.searchParams.set("state", state);
        const response = await fetch(forged);
        await response.body?.cancel();
        statuses.push(response.status);
      }
      const other = await fetch(new URL("/other", callback));
      await other.body?.cancel();
      statuses.push(other.status);
    },
  });
  assert.deepEqual(statuses, [400, 400, 404]);
  assert.equal(decodeJwt(tokens.idToken).sub, "alice");
});

Deno.test("loginByBrowser() refuses an answer of another provider", async () => {
  await using provider = await start();
  using client = open(provider);
  await assert.rejects(
    () => login(client, provider, { change: (url) => url.searchParams.set("iss", "https://evil.example") }),
    isLoginError(/iss/),
  );
});

Deno.test("loginByBrowser() says what the provider says when it refuses", async () => {
  await using provider = await start();
  using client = open(provider);
  const refusal = (url: URL) => {
    url.searchParams.delete("code");
    url.searchParams.set("error", "access_denied");
    url.searchParams.set("error_description", "You are not welcome");
  };
  await assert.rejects(
    () => login(client, provider, { change: refusal }),
    isLoginError(/access_denied: You are not welcome/),
  );
});

Deno.test("loginByBrowser() ends when it is aborted, and leaves no listener", async () => {
  await using provider = await start();
  using client = open(provider);
  const ending = new AbortController();
  await assert.rejects(() =>
    client.loginByBrowser({
      nonce: "n-1",
      show: () => ending.abort(new Error("enough")),
      signal: ending.signal,
    })
  );
});

Deno.test("loginByDevice() waits until the code was entered elsewhere", async () => {
  await using provider = await start();
  using client = open(provider);
  let isEntered: Promise<unknown> | undefined;
  const tokens = await client.loginByDevice({
    nonce: "n-1",
    show: ({ url, completeUrl, code }) => {
      assert.match(code, /^[A-Z]{4}-[A-Z]{4}$/);
      assert.ok(completeUrl!.startsWith(url));
      isEntered = provider.browse(completeUrl!, "alice");
    },
    signal: AbortSignal.timeout(30_000),
  });
  await isEntered;
  assert.equal(decodeJwt(tokens.idToken).sub, "alice");
  assert.ok(tokens.refreshToken !== undefined);
});

Deno.test("[RFC8628-3.5] loginByDevice() asks again while it is told to, and slower when it is told that", async () => {
  const script = ["authorization_pending", "authorization_pending", "access_denied"];
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ({ url }) => {
    const { origin, pathname } = new URL(url);
    if (pathname === "/token") return Response.json({ error: script.shift() }, { status: 400 });
    return Response.json(
      pathname === "/device"
        ? { device_code: "d", user_code: "u", verification_uri: origin, expires_in: 60, interval: 0.01 }
        : {
          issuer: origin,
          device_authorization_endpoint: `${origin}/device`,
          token_endpoint: `${origin}/token`,
        },
    );
  });
  const issuer = `http://127.0.0.1:${server.addr.port}`;
  const login = async (milliseconds: number) => {
    using client = new OpenidClient({ issuer, clientId: "ginnel", scopes: [] });
    const signal = AbortSignal.timeout(milliseconds);
    return await client.loginByDevice({ nonce: "n-1", show: () => {}, signal });
  };
  await assert.rejects(() => login(10_000), isLoginError(/access_denied/));
  assert.equal(script.length, 0);
  script.push("slow_down", "access_denied");
  await assert.rejects(() => login(1_000), isLoginError(/timeout/));
  assert.deepEqual(script, ["access_denied"]);
});

Deno.test("refresh() brings a new ID token until the refresh token is revoked", async () => {
  await using provider = await start();
  using client = open(provider);
  const { refreshToken } = await login(client, provider);
  const signal = AbortSignal.timeout(10_000);
  const next = await client.refresh(refreshToken!, signal);
  assert.equal(decodeJwt(next.idToken).sub, "alice");
  assert.equal(await client.revoke(next.refreshToken!, signal), true);
  await assert.rejects(() => client.refresh(next.refreshToken!, signal), isLoginError(/invalid_grant/));
});

Deno.test("OpenidClient uses a private CA when it is given, and no other certificate", async () => {
  const tls = await makeTlsFiles("localhost");
  await using provider = await start({ tls });
  using stranger = open(provider);
  const signal = AbortSignal.timeout(10_000);
  await assert.rejects(() => stranger.refresh("x", signal), isAway(/UnknownIssuer/i, /--provider-ca/));
  using client = new OpenidClient({ ...optionsOf(provider), roots: [tls.root] });
  await assert.rejects(() => client.refresh("x", signal), isLoginError(/invalid_grant/));
});

Deno.test("OpenidClient says when a provider is away, and what to do", async () => {
  await using provider = await start();
  using client = open(provider);
  const signal = AbortSignal.timeout(10_000);
  provider.intercept = (_request, response) => (response.writeHead(503).end(), true);
  await assert.rejects(() => client.refresh("x", signal), isAway(/503/, /Try again/));
  provider.intercept = (request) => (request.socket.destroy(), true);
  await assert.rejects(() => client.refresh("x", signal), isAway(/./, /Try again/));
  provider.intercept = () => false;
  await assert.rejects(() => client.refresh("x", signal), isLoginError(/invalid_grant/));
});

Deno.test("OpenidClient sends nothing in the clear beyond this machine", async () => {
  for (const issuer of ["http://id.example.com", "http://localhost:1"]) {
    using client = new OpenidClient({ issuer, clientId: "ginnel", scopes: [] });
    await assert.rejects(() => client.refresh("x", AbortSignal.timeout(5_000)), isLoginError(/HTTPS/i));
  }
});

function start(options: OpenidProviderOptions = {}): Promise<OpenidProvider> {
  return OpenidProvider.start({ people: [ALICE], ...options });
}

function optionsOf({ issuer, clientId }: OpenidProvider) {
  return { issuer, clientId, scopes: ["openid", "profile", "offline_access"] };
}

function open(provider: OpenidProvider): OpenidClient {
  return new OpenidClient(optionsOf(provider));
}

async function login(client: OpenidClient, provider: OpenidProvider, hooks: {
  readonly seen?: (url: string) => void;
  readonly before?: (callback: URL) => Promise<void>;
  readonly change?: (callback: URL) => void;
} = {}) {
  let browser: Promise<void> | undefined;
  const browse = async (url: string) => {
    const callback = new URL((await provider.browse(url, "alice"))!);
    await hooks.before?.(callback);
    hooks.change?.(callback);
    const response = await fetch(callback);
    assert.equal(response.status, 200);
    assert.doesNotMatch(await response.text(), /code|state/);
  };
  try {
    return await client.loginByBrowser({
      nonce: "n-1",
      show: (url) => {
        hooks.seen?.(url);
        browser = browse(url);
      },
      signal: AbortSignal.timeout(30_000),
    });
  } finally {
    await browser;
  }
}

function isLoginError(pattern: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof GinnelError && error.code === "ERR_OIDC_LOGIN", String(error));
    const causes: string[] = [];
    for (let cause: unknown = error; cause instanceof Error; cause = cause.cause) causes.push(cause.message);
    assert.match(causes.join(" < "), pattern);
    return true;
  };
}

function isAway(pattern: RegExp, hint: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof GinnelError && error.code === "ERR_OIDC_UNREACHABLE", String(error));
    assert.match(error.message, pattern);
    assert.match(error.hint ?? "", hint);
    return true;
  };
}
