/**
 * A stranger at the API of a running controller: what comes before authentication costs it nothing and others nothing,
 * and nobody becomes somebody but by a token or by the key of a certificate, shown to this controller, now, once.
 */

import assert from "node:assert/strict";
import { connect } from "node:http2";
import { base64url } from "jose";
import { createCaDirectory, openCaDirectory } from "../../src/identity/ca_directory.ts";
import { issueIdentity } from "../../src/identity/issue_identity.ts";
import { type Identity, loadIdentity, parseIdentity } from "../../src/identity/identity_file.ts";
import { signJws } from "../../src/identity/jws.ts";
import { encodeBase64 } from "../../src/identity/pem.ts";
import { createProof, PROOF_TYPE } from "../../src/identity/proof.ts";
import { serverName } from "../../src/identity/spiffe_id.ts";
import { generateKeys } from "../identity/forge.ts";
import { Stranger, type StrangerAnswer, type StrangerRequest } from "../support/api_stranger.ts";
import { ControllerGround } from "../support/controller_ground.ts";
import { eventually } from "../support/eventually.ts";
import { RelayCaller } from "../support/relay_caller.ts";
import { runCommand } from "../support/processes.ts";
import { needsTool, testNeeding } from "../support/require_tool.ts";

/** Everything that takes a body from anybody. */
const OPEN_DOORS = [
  "/enrolment/v1/enrol",
  "/login/v1/login",
  "/api/v1/services",
  "/api/v1/policies",
  "/sync/v1/report",
];

const CONTROLLER = serverName("controller", "controller-1");

Deno.test("floods before authentication take no memory to speak of and nobody else's turn", async () => {
  await using ground = await ControllerGround.create();
  const [{ port, process }] = ground.controllers as [ControllerGround["controllers"][number]];
  const flood = async (from: string) => {
    const json = "content-type: application/json\r\n";
    const strangers = await Promise.all(Array.from({ length: 200 }, async (_, n) => {
      const stranger = await Stranger.connect({ port, from, isTls: n % 20 !== 0 });
      const post = `POST ${
        OPEN_DOORS[Math.floor(n / 10) % OPEN_DOORS.length]
      } HTTP/1.1\r\nhost: c\r\n${json}`;
      switch (n % 10) {
        case 0: // Nothing at all, without or with TLS.
          break;
        case 1: // A head that never ends, slowly.
          await stranger.say("GET /health HTTP/1.1\r\nhost: c\r\nx-");
          break;
        case 2: // A head of a megabyte, in few fields or in many.
          await stranger.flood(`x-a: ${"x".repeat(60_000)}\r\n`, 20).then(() => stranger.say("\r\n"));
          break;
        case 3:
          await stranger.say("GET /health HTTP/1.1\r\nhost: c\r\n");
          await stranger.flood("x-a: b\r\n".repeat(1_000), 20);
          break;
        case 4: // A body of which no more comes.
          await stranger.say(`${post}content-length: 1000\r\n\r\n{"token":"`);
          break;
        case 5: // A body too large by its own account.
          await stranger.say(`${post}content-length: 1000000000\r\n\r\n${"x".repeat(10_000)}`);
          break;
        default: // Bodies without end.
          await stranger.say(`${post}transfer-encoding: chunked\r\n\r\n`);
          await stranger.flood(`10000\r\n${"x".repeat(0x10000)}\r\n`, 64);
      }
      return stranger;
    }));
    return strangers;
  };
  // The first time warms caches and grows buffers for good; the second shows whether anything is kept.
  const first = await flood("127.0.0.66");
  const before = process.usage().rssBytes;
  let slowest = 0;
  let isOver = false;
  const others = (async () => {
    // As many as one address may ask for.
    for (let n = 0; n < 200 && !isOver; n++) {
      const started = performance.now();
      assert.equal((await ground.api("GET", "/services")).status, 200);
      slowest = Math.max(slowest, performance.now() - started);
    }
  })();
  const second = await flood("127.0.0.67");
  isOver = true;
  await others;
  const grown = process.usage().rssBytes - before;
  assert.ok(grown < 96 << 20, `${grown} bytes more`);
  assert.ok(slowest < 2_000, `somebody else waited ${slowest} ms`);
  const all = [...first, ...second];
  // Who asked is answered, early, and who never asks is sent away.
  const asked = all.filter((_, n) => n % 10 >= 4 && n % 20 !== 0);
  await eventually(() => asked.every(({ heard, isClosed }) => heard !== "" || isClosed), { timeout: 20_000 });
  const statuses = new Set(asked.map(({ heard }) => Number(/^HTTP\/1\.1 (\d+)/.exec(heard)?.[1] ?? 0)));
  assert.ok([401, 408, 413].every((status) => statuses.has(status)), [...statuses].join());
  assert.ok(
    [...statuses].every((status) => [0, 400, 401, 408, 413, 429].includes(status)),
    [...statuses].join(),
  );
  await Promise.all(all.filter((_, n) => n % 10 < 2).map(({ closed }) => closed));
  for (const stranger of all) stranger[Symbol.dispose]();
});

testNeeding(
  [needsTool("prlimit", { install: "part of every Linux system" })],
  "a crowd that takes the last descriptor takes the API away for as long as it stays, and no longer",
  async () => {
    await using ground = await ControllerGround.create();
    const [{ port, process }] = ground.controllers as [ControllerGround["controllers"][number]];
    const open = [...Deno.readDirSync(`/proc/${process.pid}/fd`)].length;
    await runCommand(["prlimit", "--pid", String(process.pid), `--nofile=${open + 100}:${open + 100}`]);
    const crowd = await Promise.all(
      Array.from({ length: 300 }, () => Stranger.connect({ port, isTls: false })),
    );
    for (const stranger of crowd) stranger[Symbol.dispose]();
    await eventually(async () => (await Stranger.ask({ port }, { path: "/health" })).status === 200);
    assert.ok(process.running);
  },
);

Deno.test("HTTP/2 is bounded like HTTP/1.1", async () => {
  await using ground = await ControllerGround.create();
  const [{ url, process }] = ground.controllers as [ControllerGround["controllers"][number]];
  const before = process.usage().rssBytes;
  const session = connect(url, { rejectUnauthorized: false });
  session.on("error", () => {/* the controller may end it */});
  const streams = Array.from({ length: 100 }, (_, n) => {
    const stream = session.request({
      ":method": "POST",
      ":path": OPEN_DOORS[n % OPEN_DOORS.length],
      "content-type": "application/json",
      ...(n % 2 === 0 ? { "x-fill": "x".repeat(60_000) } : {}),
    });
    const seen = { status: 0, isOver: false };
    stream.on("error", () => {/* reset: counted as refused */});
    stream.on("response", (headers) => seen.status = Number(headers[":status"]));
    stream.on("close", () => seen.isOver = true);
    stream.resume();
    stream.write("x".repeat(2 << 20));
    return seen;
  });
  await eventually(() => streams.every(({ status, isOver }) => status > 0 || isOver));
  const statuses = streams.map(({ status }) => status);
  session.destroy();
  assert.ok(statuses.every((status) => status === 0 || status >= 400), statuses.join());
  assert.ok(statuses.filter((status) => status >= 400).length >= 40, statuses.join());
  assert.ok(process.usage().rssBytes - before < 96 << 20);
  assert.equal((await ground.api("GET", "/services")).status, 200);
});

Deno.test("nobody is anybody by a header field, by another's certificate, by a key without a name, or by what was shown elsewhere", async () => {
  await using ground = await ControllerGround.create();
  const [{ port, data }] = ground.controllers as [ControllerGround["controllers"][number]];
  // A relay of the controller's own name: what is shown to it must be of no use at the controller.
  const relay = await ground.relay();
  const namesake = await ground.enrol("relay", "controller-1", { address: "127.0.0.1:1" });
  const chief = await ground.enrol("agent", "chief");
  assert.equal((await ground.api("PATCH", `/identities/${chief.id}`, { adminRole: "admin" })).status, 200);
  const identity = await loadIdentity(chief.path);
  const plain = await loadIdentity((await ground.enrol("agent", "plain")).path);
  let callers = 0;
  // From an address of its own each time: guesses run out of tries quickly.
  const ask = (request: Partial<StrangerRequest>) =>
    Stranger.ask({ port, from: `127.0.2.${++callers}` }, { path: "/api/v1/whoami", ...request });
  const status = async (token: string) => (await ask({ token })).status;
  const proof = (audience: string, { now = Date.now(), by = identity } = {}) =>
    createProof({ identity: by, audience, now });

  const good = await proof(CONTROLLER);
  assert.match((await ask({ token: good })).text, /"role":"admin"/, "the true one is let in");
  assert.equal(await status(good), 401, "and not twice");
  const pem = identity.certificatePem;
  const claims = {
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded-user": identity.id.uri,
    "x-spiffe-id": identity.id.uri,
    "x-client-cert": encodeURIComponent(pem),
    "x-ssl-client-cert": encodeURIComponent(pem),
    "x-ssl-client-verify": "SUCCESS",
    "x-forwarded-client-cert": `By=x;URI=${identity.id.uri}`,
    "client-cert": `:${encodeBase64(identity.chainDer[0]!)}:`,
    "zt-session": ground.token,
    "x-api-key": ground.token,
    "cookie": `token=${ground.token}`,
  };
  assert.equal((await ask({ headers: claims })).status, 401, "by header fields");
  assert.equal((await ask({ path: `/api/v1/whoami?access_token=${ground.token}` })).status, 401);

  const elsewhere = [
    await proof("relay-1"),
    await proof("controller-1"),
    await proof("controller-2"),
    await proof(serverName("controller", "controller-2")),
    await proof(serverName("relay", "controller-1")),
    await proof(identity.id.uri),
    await proof("enrolment"),
    await proof(CONTROLLER, { now: Date.now() - 120_000 }),
    await proof(CONTROLLER, { now: Date.now() + 120_000 }),
    await proof(CONTROLLER, { by: plain }),
    await proof(CONTROLLER, { by: await loadIdentity(namesake.path) }),
  ];
  const answers = await Promise.all(elsewhere.map(status));
  // The namesake is a relay with its own proof: known, and without rights there.
  assert.deepEqual(answers, elsewhere.map((_, n) => n === elsewhere.length - 1 ? 200 : 401));
  await using caller = new RelayCaller(relay, (await ground.roots())[0]!);
  const atRelay = await (await caller.dial()).view(await proof(CONTROLLER));
  assert.equal(atRelay.status, 401, "nor the other way round");

  // Certificates without their key, not the leaf, of the CA itself, of another network of the same name.
  const x5c = identity.chainDer.map(encodeBase64);
  const own = plain.chainDer.map(encodeBase64);
  const forged = (key: CryptoKey, chain: readonly string[], change: Record<string, unknown> = {}) => {
    const iat = Math.floor(Date.now() / 1_000);
    const { uri } = identity.id;
    const jti = base64url.encode(crypto.getRandomValues(new Uint8Array(16)));
    const payload = { iss: uri, sub: uri, aud: CONTROLLER, iat, exp: iat + 30, jti, ...change };
    return signJws(payload, { key, header: { typ: PROOF_TYPE, x5c: [...chain] } });
  };
  const ca = await openCaDirectory(`${data}/ca`);
  const { ca: otherCa } = await createCaDirectory(`${ground.folder}/other-ca`, {
    ...{ trustDomain: "test.example", now: Date.now(), days: 2 },
  });
  const twin = await foreignTwin(otherCa, identity);
  const caDer = encodeBase64(
    Uint8Array.from(atob(ca.ca.certificatePem.replaceAll(/-----[^-]+-----|\s/g, "")), (c) => c.charCodeAt(0)),
  );
  const stranger = (await generateKeys()).privateKey;
  const forgeries: Record<string, string> = {
    "a certificate seen is not a key held": await forged(stranger, x5c),
    "a key whose certificate comes second": await forged(plain.privateKey, [...x5c, ...own]),
    "another's certificate behind one's own": await forged(plain.privateKey, [...own, ...x5c]),
    "another's name in one's own proof": await forged(plain.privateKey, own),
    "the CA's own key": await forged(ca.ca.privateKey, [caDer]),
    "another network's CA": await forged(twin.privateKey, twin.chainDer.map(encodeBase64)),
    "no certificate at all": await forged(identity.privateKey, []),
    "no aud": await forged(identity.privateKey, x5c, { aud: undefined }),
    "aud of several": await forged(identity.privateKey, x5c, { aud: [CONTROLLER, "x"] }),
    "no iss": await forged(identity.privateKey, x5c, { iss: undefined }),
    "no exp": await forged(identity.privateKey, x5c, { exp: undefined }),
    "a life of a day": await forged(identity.privateKey, x5c, {
      exp: Math.floor(Date.now() / 1_000) + 86_400,
    }),
    "no signature algorithm": `${base64url.encode(`{"alg":"none","typ":"${PROOF_TYPE}"}`)}.${
      good.split(".")[1]
    }.`,
  };
  for (const [what, token] of Object.entries(forgeries)) assert.equal(await status(token), 401, what);
  assert.equal(await status(await forged(identity.privateKey, x5c)), 200, "the forger can make good ones");
});

Deno.test("an address runs out of tries for itself alone", async () => {
  await using ground = await ControllerGround.create();
  const [{ port }] = ground.controllers as [ControllerGround["controllers"][number]];
  const guess = (from: string, n: number) =>
    Stranger.ask({ port, from }, {
      path: "/api/v1/whoami",
      token: `gnl_${crypto.randomUUID()}_${"x".repeat(43)}`,
      headers: {
        "x-forwarded-for": `203.0.113.${n}`,
        "x-real-ip": `203.0.113.${n}`,
        forwarded: `for=203.0.113.${n}`,
      },
    });
  const guesses: StrangerAnswer[] = [];
  for (let n = 0; n < 60; n++) guesses.push(await guess("127.0.0.70", n));
  const refused = guesses.filter(({ status }) => status === 401).length;
  assert.ok(refused > 0 && refused <= 50, `${refused} guesses were looked at`);
  const limited = guesses.filter(({ status }) => status === 429);
  assert.equal(limited.length, guesses.length - refused);
  for (const { text } of limited) assert.match(text, /retry-after: [1-9]/i);
  const late = await Stranger.ask({ port, from: "127.0.0.70" }, {
    path: "/api/v1/whoami",
    token: ground.token,
  });
  assert.equal(late.status, 429, "also when it guesses right at last");
  const other = await Stranger.ask({ port, from: "127.0.0.71" }, {
    path: "/api/v1/whoami",
    token: ground.token,
  });
  assert.equal(other.status, 200);
  // Enrolment and login, which anybody may ask for, are limited more strictly, and again for each alone.
  const enrolments = await Promise.all(
    Array.from(
      { length: 90 },
      () => Stranger.ask({ port, from: "127.0.0.72" }, { path: "/enrolment/v1/ca" }),
    ),
  );
  assert.ok(
    enrolments.some(({ status }) => status === 429) && enrolments.some(({ status }) => status === 200),
  );
  assert.equal((await Stranger.ask({ port, from: "127.0.0.73" }, { path: "/enrolment/v1/ca" })).status, 200);
});

/** An identity of the same name by another network's CA of the same name. */
async function foreignTwin(
  ca: Parameters<typeof issueIdentity>[0],
  { id, trust }: Identity,
): Promise<Identity> {
  const { kind, name } = id as { readonly kind: "agent"; readonly name: string };
  const now = Date.now();
  const { text } = await issueIdentity(ca, { kind, name, authorities: trust.authorities, now, days: 1 });
  return await parseIdentity(text, { source: "twin", now });
}
