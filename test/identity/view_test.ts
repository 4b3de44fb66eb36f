/** Attacks on signed views. Each differs from a good one in one thing, and is refused for that very thing. */

import assert from "node:assert/strict";
import { base64url, type JWK } from "jose";
import fc from "fast-check";
import { createAuthority } from "../../src/identity/authority.ts";
import { parseSpiffeId } from "../../src/identity/spiffe_id.ts";
import {
  MAX_VIEW_LENGTH,
  signView,
  verifyView,
  type VerifyViewOptions,
  type View,
  VIEW_TYPE,
} from "../../src/identity/view.ts";
import { createTestNetwork, NOW, rejectsWith } from "./forge.ts";

const NOW_SECONDS = NOW / 1000;
const AUTHORITY = await createAuthority();
const ALICE = parseSpiffeId("spiffe://test.internal/agent/alice");
const GOOD: View = {
  rev: 7,
  sub: ALICE.uri,
  iat: NOW_SECONDS,
  exp: NOW_SECONDS + 3600,
  dial: [{ service: "web", endToEnd: "required", bind: ["spiffe://test.internal/connector/c1"] }],
  bind: [{ service: "files", endToEnd: "optional", dial: ["spiffe://test.internal/agent/bob"] }],
};
const HEADER = { alg: "ES256", typ: VIEW_TYPE, kid: AUTHORITY.kid };

Deno.test("verifyView() gives back what signView() signed", async () => {
  assert.deepEqual(await verify(await signView({ authority: AUTHORITY, view: GOOD })), GOOD);
});

Deno.test("verifyView() gives back what signView() packed, foreign identities included", async () => {
  const callers = Array.from({ length: 300 }, (_, i) => `spiffe://test.internal/agent/a${i}`);
  const foreign = ["spiffe://other.internal/ns/a", "spiffe://test.internal.evil/agent/a1"];
  const view: View = {
    ...GOOD,
    bind: [
      { service: "a", endToEnd: "required", dial: [...foreign, ...callers] },
      { service: "b", endToEnd: "optional", dial: [...foreign, ...callers] },
      { service: "c", endToEnd: "optional", dial: callers },
      { service: "d", endToEnd: "optional", dial: [] },
    ],
  };
  const jws = await signView({ authority: AUTHORITY, view });
  assert.deepEqual(await verify(jws), view);
  const alone = { ...view, bind: view.bind.slice(0, 1) };
  const length = (await signView({ authority: AUTHORITY, view: alone })).length;
  assert.ok(jws.length < length * 2.2, `${jws.length} ${length}`);
});

Deno.test("signView() fits a network's 10,000 callers of fifty services into what nodes accept", async () => {
  const dial = Array.from({ length: 10_000 }, (_, i) => `spiffe://test.internal/agent/workstation-${i}`);
  const bind = Array.from(
    { length: 50 },
    (_, i) => ({ service: `service-${i}`, endToEnd: "required" as const, dial }),
  );
  const view = await verify(await signView({ authority: AUTHORITY, view: { ...GOOD, bind } }));
  assert.deepEqual(view.bind[49], bind[49]);
});

Deno.test("verifyView() refuses a packed view whose lists do not fit", async () => {
  const packed = (peers: unknown, index: unknown) => ({
    peers,
    dial: [],
    bind: [{ service: "a", endToEnd: "required", dial: index }],
  });
  assert.equal((await verify(await sign(packed([["/agent/bob"]], 0) as never))).bind[0]!.dial.length, 1);
  for (
    const [peers, index] of [
      [[["/agent/bob"]], 1],
      [[["/agent/bob"]], -1],
      [[["/agent/bob"]], "length"],
      [[["agent/bob"]], 0],
      [[["/agent/bob"]], ["spiffe://test.internal/agent/bob"]],
      [[[7]], 0],
      [{ 0: ["/agent/bob"] }, 0],
      [null, 0],
    ]
  ) {
    const jws = await sign(packed(peers, index) as never);
    await rejectsWith("ERR_VIEW_MALFORMED", () => verify(jws));
  }
});

Deno.test("verifyView() finds the right one of several authorities", async () => {
  const other = await createAuthority();
  const authorities = [other.publicJwk, AUTHORITY.publicJwk];
  assert.deepEqual(await verify(await sign({}), { authorities }), GOOD);
});

Deno.test("verifyView() refuses a key that is no authority's", async () => {
  const other = await createAuthority();
  const jws = await signView({ authority: other, view: GOOD });
  await rejectsWith("ERR_VIEW_AUTHORITY", () => verify(jws));
  await rejectsWith("ERR_VIEW_AUTHORITY", () => verify(jws, { authorities: [] }));
});

Deno.test("verifyView() refuses another key under the authority's key id", async () => {
  const other = await createAuthority();
  const jws = await signView({ authority: { ...other, kid: AUTHORITY.kid }, view: GOOD });
  await rejectsWith("ERR_VIEW_SIGNATURE", () => verify(jws));
});

Deno.test("verifyView() refuses a view signed by an identity's own key", async () => {
  const network = await createTestNetwork();
  const relay = await network.identity("relay", "relay-1");
  await rejectsWith(
    "ERR_VIEW_SIGNATURE",
    () => sign({}, { key: relay.privateKey }).then((jws) => verify(jws)),
  );
});

Deno.test("verifyView() refuses a key that the token brings along", async () => {
  const other = await createAuthority();
  const jws = await sign({}, { header: { jwk: other.publicJwk }, key: other.privateKey });
  await rejectsWith("ERR_VIEW_SIGNATURE", () => verify(jws));
});

Deno.test("verifyView() refuses a view for another subject", async () => {
  await rejectsWith("ERR_VIEW_SUBJECT", () => verifySigned({ sub: "spiffe://test.internal/agent/bob" }));
  await rejectsWith(
    "ERR_VIEW_SUBJECT",
    () => verifySigned({ sub: "spiffe://test.internal/connector/alice" }),
  );
});

Deno.test("verifyView() refuses an expired view and one from the future, with 30 seconds for clocks", async () => {
  assert.ok(await verifySigned({ exp: NOW_SECONDS - 29 }));
  await rejectsWith("ERR_VIEW_EXPIRED", () => verifySigned({ exp: NOW_SECONDS - 30 }));
  assert.ok(await verifySigned({ iat: NOW_SECONDS + 30 }));
  await rejectsWith("ERR_VIEW_NOT_YET_VALID", () => verifySigned({ iat: NOW_SECONDS + 31 }));
});

Deno.test("verifyView() refuses an older revision and accepts the same or a newer one", async () => {
  const jws = await sign({});
  assert.equal((await verify(jws, { minRevision: 6 })).rev, 7);
  assert.equal((await verify(jws, { minRevision: 7 })).rev, 7);
  await rejectsWith("ERR_VIEW_OUTDATED", () => verify(jws, { minRevision: 8 }));
});

Deno.test("verifyView() refuses every algorithm but ES256", async () => {
  for (const alg of ["none", "HS256", "RS256", "ES384", undefined]) {
    await rejectsWith("ERR_VIEW_ALGORITHM", () => sign({}, { header: { alg } }).then((jws) => verify(jws)));
  }
});

Deno.test("verifyView() refuses another kind of token, such as a proof", async () => {
  for (
    const header of [{ typ: "ginnel-proof+jwt" }, { typ: undefined }, { kid: undefined }, {
      crit: ["x"],
      x: 1,
    }]
  ) {
    await rejectsWith("ERR_VIEW_MALFORMED", () => sign({}, { header }).then((jws) => verify(jws)));
  }
});

Deno.test("verifyView() refuses an altered view", async () => {
  const [header, , signature] = (await sign({})).split(".");
  await rejectsWith(
    "ERR_VIEW_SIGNATURE",
    () => verify(`${header}.${encode({ ...GOOD, rev: 8 })}.${signature}`),
  );
});

Deno.test("verifyView() refuses rights of the wrong shape, unknown settings and double entries", async () => {
  const dial = GOOD.dial[0]!;
  const wrong: Record<string, unknown>[] = [
    { dial: undefined },
    { bind: undefined },
    { dial: [{ ...dial, bind: undefined }] },
    { dial: [{ ...dial, bind: ["#all"] }] },
    { dial: [{ ...dial, endToEnd: "never" }] },
    { dial: [{ ...dial, endToEnd: undefined }] },
    { dial: [{ ...dial, service: "" }] },
    { dial: [dial, { ...dial, bind: [] }] },
    { bind: [GOOD.bind[0], GOOD.bind[0]] },
    { rev: -1 },
    { rev: 1.5 },
    { exp: undefined },
    { iat: "now" },
  ];
  for (const claims of wrong) await rejectsWith("ERR_VIEW_MALFORMED", () => verifySigned(claims));
});

const SERVICES = { zone: "test.internal", ipv4: "10.101.0.0/16", ipv6: "fd00::/64" };

Deno.test("verifyView() gives back how services appear, whatever the shape of a config, packed or not", async () => {
  const intercept = { addresses: ["web.example"], later: { than: ["this", "version"] } };
  const host = { protocol: "tcp", address: "localhost", port: 80 };
  for (const count of [1, 300]) {
    const peers = Array.from({ length: count }, (_, i) => `spiffe://test.internal/agent/a${i}`);
    const view: View = {
      ...GOOD,
      services: SERVICES,
      dial: [{ ...GOOD.dial[0]!, bind: peers, index: 16, intercept, idleTimeout: 5 }],
      bind: [{ ...GOOD.bind[0]!, dial: peers, host, idleTimeout: 86_400 }],
    };
    assert.deepEqual(await verify(await signView({ authority: AUTHORITY, view })), view);
  }
});

Deno.test("verifyView() refuses numbers, times and zones out of bounds", async () => {
  const dial = GOOD.dial[0]!;
  const wrong: readonly Partial<View>[] = [
    { dial: [{ ...dial, index: 0 }] },
    { dial: [{ ...dial, index: 65_536 }] },
    { dial: [{ ...dial, index: 1.5 }] },
    { dial: [{ ...dial, idleTimeout: 0 }] },
    { dial: [{ ...dial, idleTimeout: 86_401 }] },
    { dial: [{ ...dial, intercept: [] as never }] },
    { bind: [{ ...GOOD.bind[0]!, host: "localhost" as never }] },
    { services: { ...SERVICES, zone: "" } },
    { services: { ...SERVICES, zone: "." } },
    { services: { ...SERVICES, zone: "a b.internal" } },
    { services: { ...SERVICES, zone: "Test.internal" } },
    { services: { ...SERVICES, zone: `${"a.".repeat(120)}internal` } },
    { services: { ...SERVICES, ipv4: "1".repeat(19) } },
    { services: { zone: "test.internal" } as never },
  ];
  for (const parts of wrong) {
    const jws = await signView({ authority: AUTHORITY, view: { ...GOOD, ...parts } });
    await rejectsWith("ERR_VIEW_MALFORMED", () => verify(jws));
  }
});

Deno.test("verifyView() accepts a view without any right", async () => {
  assert.deepEqual((await verifySigned({ dial: [], bind: [] })).dial, []);
});

Deno.test("verifyView() refuses an oversize view before it looks at it", async () => {
  await rejectsWith("ERR_VIEW_TOO_LARGE", () => verify("x".repeat(MAX_VIEW_LENGTH + 1)));
});

Deno.test("verifyView() answers any text with an IdentityError", async () => {
  const part = fc.oneof(
    fc.string(),
    fc.json().map((text) => base64url.encode(text)),
    fc.constant(encode(HEADER)),
  );
  await fc.assert(fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 4 }), async (parts) => {
    await assert.rejects(() => verify(parts.join(".")), { name: "IdentityError" });
  }));
});

Deno.test("verifyView() refuses a view cut off anywhere", async () => {
  const jws = await sign({});
  for (let length = 0; length < jws.length; length += 3) {
    await assert.rejects(() => verify(jws.slice(0, length)), { name: "IdentityError" }, String(length));
  }
});

function verify(jws: string, options: Partial<VerifyViewOptions> = {}): Promise<View> {
  return verifyView(jws, {
    authorities: [AUTHORITY.publicJwk] as JWK[],
    subject: ALICE,
    now: NOW,
    ...options,
  });
}

async function verifySigned(claims: Record<string, unknown>): Promise<View> {
  return await verify(await sign(claims));
}

async function sign(
  claims: Record<string, unknown>,
  options: { readonly header?: Record<string, unknown>; readonly key?: CryptoKey } = {},
): Promise<string> {
  const { header = {}, key = AUTHORITY.privateKey } = options;
  const input = `${encode({ ...HEADER, ...header })}.${encode({ ...GOOD, ...claims })}`;
  const algorithm = { name: "ECDSA", hash: "SHA-256" };
  const signature = await crypto.subtle.sign(algorithm, key, new TextEncoder().encode(input));
  return `${input}.${base64url.encode(new Uint8Array(signature))}`;
}

function encode(value: unknown): string {
  return base64url.encode(JSON.stringify(value));
}
