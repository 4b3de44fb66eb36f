/** `ginnel login` end to end: real provider, real HTTPS, real database, the command itself. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { createApi } from "../../../src/api/app.ts";
import { loginRoutes } from "../../../src/api/nodes/login_routes.ts";
import { createLogger, SILENT_LOGGER } from "../../../src/base/log.ts";
import { loginCommand } from "../../../src/cli/login.ts";
import { logoutCommand } from "../../../src/cli/logout.ts";
import { parseCertificatesPem } from "../../../src/identity/certificate.ts";
import { type Identity, loadIdentity } from "../../../src/identity/identity_file.ts";
import { issueCertificate } from "../../../src/identity/pki.ts";
import { ProofVerifier } from "../../../src/identity/proof.ts";
import { serverName } from "../../../src/identity/spiffe_id.ts";
import { CertificateRenewer } from "../../../src/modes/enrol/certificate_renewer.ts";
import { loginRenewal, reviveLogin } from "../../../src/modes/login/login_renewal.ts";
import { eventually } from "../../support/eventually.ts";
import { LOGIN_DOMAIN, LoginGround } from "../../support/login_ground.ts";

const ALICE = `spiffe://${LOGIN_DOMAIN}/user/alice`;

Deno.test("ginnel login by browser, refresh, logout", async () => {
  await using ground = await Ground.open();
  const file = ground.path("alice.json");
  assert.deepEqual(await ground.login(["-o", file]), { code: 0, identity: ALICE });
  const first = await loadIdentity(file);
  assert.equal(first.id.uri, ALICE);
  assert.deepEqual(first.network!.controllers, ground.logins.controllers);
  assert.deepEqual(first.trust.authorities.map(({ kid }) => kid), [ground.logins.authority.kid]);
  assert.deepEqual(await attributes(ground), ["admins", "dev"]);
  for (const path of [file, `${file}.login`]) assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);

  ground.logins.provider.people.set("u-alice", {
    sub: "u-alice",
    preferred_username: "root",
    groups: ["ops"],
  });
  await ground.refreshes(file);
  const second = await loadIdentity(file);
  assert.equal(second.id.uri, ALICE);
  assert.notDeepEqual(second.chainDer[0], first.chainDer[0]);
  assert.deepEqual(await attributes(ground), ["ops"]);

  const { serial } = parseCertificatesPem(second.certificatePem)[0]!;
  const out = await ground.run(["logout", "--identity", file]);
  assert.deepEqual([out.code, out.stderr], [0, ""]);
  assert.deepEqual(await ground.logins.store.revokedSerials(Date.now()), [serial]);
  for (const path of [file, `${file}.login`]) {
    await assert.rejects(() => Deno.stat(path), Deno.errors.NotFound);
  }
});

Deno.test("ginnel login by device code, and again with the file that it wrote", async () => {
  await using ground = await Ground.open();
  const file = ground.path("alice.json");
  assert.deepEqual(await ground.login(["-o", file, "--device"]), { code: 0, identity: ALICE });
  const again = await ground.login(["-o", file, "--identity", file, "--provider", "main"], { here: false });
  assert.deepEqual(again, { code: 0, identity: ALICE });
  assert.equal((await ground.logins.store.list("identity", { limit: 10 })).total, 1);
});

Deno.test("ginnel login trusts no controller whose CA has another fingerprint", async () => {
  await using ground = await Ground.open();
  const file = ground.path("alice.json");
  const { code, stderr } = await ground.run([
    ...["login", "-o", file, "--controller", ground.place, "--ca-hash", "A".repeat(43)],
  ]);
  assert.equal(code, 1);
  assert.match(stderr, /shows another CA/);
  await assert.rejects(() => Deno.stat(file), Deno.errors.NotFound);
  assert.deepEqual(ground.logins.provider.requests, []);
});

Deno.test("ginnel login --refresh fails clearly for a disabled user, and keeps the files", async () => {
  await using ground = await Ground.open();
  const file = ground.path("alice.json");
  await ground.login(["-o", file]);
  const before = await Deno.readTextFile(file);
  await ground.logins.change("identity", ALICE, { disabled: true });
  const { code, stderr } = await eventually(async () => {
    const result = await ground.run(["login", "-o", file, "--refresh"]);
    return !/used already/.test(result.stderr) && result;
  });
  assert.equal(code, 1);
  assert.match(stderr, /This user is disabled/);
  assert.equal(await Deno.readTextFile(file), before);
  await ground.logins.change("identity", ALICE, { disabled: false });
  await ground.refreshes(file);
});

Deno.test("ginnel login says which providers there are", async () => {
  await using ground = await Ground.open();
  await ground.logins.addProvider("second");
  const words = [
    "login",
    "-o",
    ground.path("a.json"),
    "--controller",
    ground.place,
    "--ca-hash",
    ground.caHash,
  ];
  for (const extra of [[], ["--provider", "third"]]) {
    const { code, stderr } = await ground.run([...words, ...extra]);
    assert.equal(code, 1);
    assert.match(stderr, /Choose one with --provider: main, second/);
  }
});

Deno.test("ginnel logout removes the files also when nobody can be reached", async () => {
  const ground = await Ground.open();
  const file = ground.path("alice.json");
  try {
    await ground.login(["-o", file]);
    await ground.stopServer();
    const { code, stderr } = await ground.run(["logout", "--identity", file]);
    assert.equal(code, 1);
    assert.match(stderr, /controller could not revoke/);
    await assert.rejects(() => Deno.stat(file), Deno.errors.NotFound);
  } finally {
    await ground[Symbol.asyncDispose]();
  }
});

Deno.test("a login, its tokens and its challenge are in no output and no audit entry", async () => {
  await using ground = await Ground.open();
  const file = ground.path("alice.json");
  await ground.login(["-o", file]);
  const { refreshToken, origin } = JSON.parse(await Deno.readTextFile(`${file}.login`));
  const audit = JSON.stringify(await ground.logins.store.queryAudit({ limit: 100 }));
  for (const secret of [refreshToken, origin]) {
    assert.ok(secret.length > 20);
    assert.ok(!ground.printed.includes(secret) && !audit.includes(secret));
  }
});

Deno.test("logins of one file are refreshed one after the other: no refresh token is used twice", async () => {
  await using ground = await Ground.open();
  const file = ground.path("alice.json");
  await ground.login(["-o", file]);
  await Promise.all([1, 2, 3].map(() => ground.refreshes(file)));
  await ground.refreshes(file);
});

Deno.test("a logout during a refresh leaves nothing behind", async () => {
  await using ground = await Ground.open();
  const file = ground.path("alice.json");
  await ground.login(["-o", file]);
  const { intercept } = ground.logins.provider;
  const isAsked = Promise.withResolvers<void>();
  ground.logins.provider.intercept = (request, response) => {
    if (request.url === "/token") isAsked.resolve();
    return intercept(request, response);
  };
  const refreshing = ground.run(["login", "-o", file, "--refresh"]);
  await isAsked.promise;
  const { code, stderr } = await ground.run(["logout", "--identity", file]);
  assert.deepEqual([code, stderr], [0, ""]);
  await refreshing;
  for (const path of [file, `${file}.login`]) {
    await assert.rejects(() => Deno.stat(path), Deno.errors.NotFound);
  }
});

Deno.test("loginRenewal() lets an agent's renewer renew a login that is due", async () => {
  await using ground = await Ground.open();
  const file = ground.path("alice.json");
  await ground.login(["-o", file]);
  const { promise, resolve } = Promise.withResolvers<Identity>();
  const identity = await loadIdentity(file);
  await using _renewer = new CertificateRenewer({
    path: file,
    identity: () => identity,
    logger: SILENT_LOGGER,
    onRenewed: resolve,
    now: () => Date.now() + 7 * 3_600_000,
    ...await loginRenewal(file, () => identity),
  });
  const renewed = await promise;
  assert.notEqual(renewed.certificatePem, identity.certificatePem);
  assert.equal((await loadIdentity(file)).certificatePem, renewed.certificatePem);
});

Deno.test("loginRenewal() and reviveLogin() leave alone what no login has made", async () => {
  const path = await Deno.makeTempFile();
  assert.deepEqual(await loginRenewal(path, () => assert.fail("not asked for")), {});
  await reviveLogin(path, { logger: SILENT_LOGGER });
  assert.equal(await Deno.readTextFile(path), "");
  await Deno.remove(path);
});

Deno.test("reviveLogin() renews a login that is over, unless its user may not log in", async () => {
  await using ground = await Ground.open();
  const file = ground.path("alice.json");
  await ground.login(["-o", file]);
  ground.logins.userDays = 1 / 86_400;
  await ground.refreshes(file);
  await eventually(() => loadIdentity(file).then(() => false, () => true));
  await assert.rejects(() => loadIdentity(file), { code: "ERR_CERT_EXPIRED", hint: /ginnel login/ });
  ground.logins.userDays = 1;
  await ground.logins.change("identity", ALICE, { disabled: true });
  const lines: string[] = [];
  const logger = createLogger({ level: "info", write: (line) => void lines.push(line) });
  await reviveLogin(file, { logger });
  await assert.rejects(() => loadIdentity(file), { code: "ERR_CERT_EXPIRED" });
  assert.match(lines.join(), /"login_not_renewed".*This user is disabled/);
  await ground.logins.change("identity", ALICE, { disabled: false });
  await eventually(async () => {
    await reviveLogin(file, { logger });
    return await loadIdentity(file);
  });
});

async function attributes(ground: Ground): Promise<readonly string[]> {
  return (await ground.logins.store.find("identity", ALICE))!.spec.derivedAttributes;
}

/** A controller that only does logins, and a folder. */
class Ground implements AsyncDisposable {
  readonly logins: LoginGround;
  readonly caHash: string;
  readonly #folder: string;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  printed = "";

  private constructor(
    logins: LoginGround,
    options: {
      readonly folder: string;
      readonly caHash: string;
      readonly tls: { readonly cert: string; readonly key: string };
    },
  ) {
    this.logins = logins;
    this.caHash = options.caHash;
    this.#folder = options.folder;
    const verifier = new ProofVerifier({
      audience: serverName("controller", "controller-1"),
      trustDomain: LOGIN_DOMAIN,
      roots: [logins.ca.certificatePem],
      foreign: [],
      now: Date.now,
    });
    const api = createApi({
      admin: { noteDenied: () => Promise.resolve() } as never,
      authenticate: () => Promise.resolve(undefined),
      verifyProof: (token) => verifier.verify(token),
      nodeRouters: [{ path: "/login/v1", router: loginRoutes(logins.service), rate: "strict" }],
      health: () => ({ ready: true, uptime: 0 }),
      logger: SILENT_LOGGER,
      now: Date.now,
      limits: { strict: { perSecond: 1000, burst: 1000 } },
    });
    const listen = { hostname: "127.0.0.1", port: 0, onListen: () => {}, ...options.tls };
    this.#server = Deno.serve(listen, (request, info) => api.fetch(request, info));
    logins.controllers.push({ name: "controller-1", url: `https://127.0.0.1:${this.#server.addr.port}` });
  }

  static async open(): Promise<Ground> {
    const logins = await LoginGround.open();
    const folder = await Deno.makeTempDir();
    const issued = await issueCertificate(logins.ca, {
      kind: "controller",
      name: "controller-1",
      now: Date.now(),
      days: 1,
    });
    const { der } = parseCertificatesPem(logins.ca.certificatePem)[0]!;
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", der));
    return new Ground(logins, {
      folder,
      caHash: hash.toBase64({ alphabet: "base64url", omitPadding: true }),
      tls: { cert: issued.certificatePem + logins.ca.certificatePem, key: issued.privateKeyPem! },
    });
  }

  get place(): string {
    const [{ name, url } = { name: "", url: "" }] = this.logins.controllers;
    return `${name}=${url}`;
  }

  path(name: string): string {
    return join(this.#folder, name);
  }

  /** Runs the command; `onError` sees what it prints there, as a person would. */
  async run(args: readonly string[], onError: (text: string) => void = () => {}) {
    let stdout = "";
    let stderr = "";
    const [word, ...rest] = args;
    const code = await (word === "login" ? loginCommand : logoutCommand)(rest, {
      stdout: (text) => void (stdout += text),
      stderr: (text) => {
        stderr += text;
        onError(text);
      },
      isTerminal: false,
    });
    this.printed += stdout + stderr;
    return { code, stdout, stderr };
  }

  /** Logs alice in as a person does who opens whatever address is printed. */
  async login(args: readonly string[], { here = true } = {}) {
    const words = here ? ["--controller", this.place, "--ca-hash", this.caHash] : [];
    let browser: Promise<void> | undefined;
    const { code, stdout } = await this.run(["login", "--json", ...words, ...args], (text) => {
      const url = /https?:\S+$/m.exec(text.trim().split("\n").at(-1)!)?.[0];
      if (url !== undefined) browser = this.#browse(url);
    });
    await browser;
    return { code, identity: stdout === "" ? undefined : JSON.parse(stdout).identity };
  }

  /** Refreshes; tokens of one second are the same, and one works once. */
  async refreshes(file: string): Promise<void> {
    await eventually(async () => {
      const { code, stderr } = await this.run(["login", "-o", file, "--refresh"]);
      assert.equal(code, 0, stderr);
      return true;
    });
  }

  async stopServer(): Promise<void> {
    await this.#server.shutdown();
  }

  async #browse(url: string): Promise<void> {
    const callback = await this.logins.provider.browse(url, "u-alice");
    if (callback !== undefined) await (await fetch(callback)).body?.cancel();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
    await this.logins[Symbol.asyncDispose]();
    await Deno.remove(this.#folder, { recursive: true });
  }
}
