/** What logins need, all of it real: a database, a provider, the network's CA, and tokens of any content. */

import { join } from "node:path";
import { importJWK, type JWK, SignJWT } from "jose";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { LoginService } from "../../src/control/login/login_service.ts";
import { nonceOf } from "../../src/control/login/login_challenge.ts";
import { verifyOidcBearer } from "../../src/control/login/oidc_bearer.ts";
import type { Store } from "../../src/control/store.ts";
import type { AuthProviderSpec, IdentitySpec } from "../../src/core/network/resources.ts";
import { type Authority, createAuthority } from "../../src/identity/authority.ts";
import { parseCertificatesPem } from "../../src/identity/certificate.ts";
import { makeCsr } from "../../src/identity/csr.ts";
import { generateKeyPair } from "../../src/identity/key_pair.ts";
import { signNetworkDocument } from "../../src/identity/network_document.ts";
import { type CaBundle, createCa, issueCertificate } from "../../src/identity/pki.ts";
import { ProviderDirectory } from "../../src/io/oidc/provider_directory.ts";
import { openStore } from "../../src/store/open_store.ts";
import { OpenidProvider, type Person } from "./openid_provider.ts";

/** The trust domain of the ground. */
export const LOGIN_DOMAIN = "test.internal";

/** People whom the ground's provider knows. */
export const PEOPLE: readonly Person[] = [
  { sub: "u-alice", preferred_username: "Alice", groups: ["dev", "admins"] },
  { sub: "u-bob", preferred_username: "bob", groups: ["dev"] },
];

/** A controller's login without its transport. */
export class LoginGround implements AsyncDisposable {
  readonly store: Store;
  readonly provider: OpenidProvider;
  readonly ca: CaBundle;
  readonly authority: Authority;
  readonly service: LoginService;
  readonly providers: ProviderDirectory;
  readonly #folder: string;
  readonly controllers: { readonly name: string; readonly url: string }[] = [];
  /** How long users' certificates live. */
  userDays = 8 / 24;
  /** Added to the real time. */
  skew = 0;

  private constructor(
    parts: Pick<LoginGround, "store" | "provider" | "ca" | "authority">,
    { folder, directory }: { readonly folder: string; readonly directory: ProviderDirectory },
  ) {
    ({ store: this.store, provider: this.provider, ca: this.ca, authority: this.authority } = parts);
    this.#folder = folder;
    this.providers = directory;
    this.service = new LoginService({
      store: this.store,
      providers: directory,
      issueUser: (user) => this.#issue(user),
      network: () => this.network(),
      authority: () => this.authority,
      trustDomain: LOGIN_DOMAIN,
      source: `spiffe://${LOGIN_DOMAIN}/controller/controller-1`,
      logger: SILENT_LOGGER,
      now: () => Date.now() + this.skew,
    });
  }

  /** Opens a ground with one provider, `main`. */
  static async open(change: Partial<AuthProviderSpec> = {}): Promise<LoginGround> {
    const folder = await Deno.makeTempDir();
    const store = await openStore({ kind: "sqlite", path: join(folder, "ginnel.db") }, {
      logger: SILENT_LOGGER,
    });
    const provider = await OpenidProvider.start({ people: PEOPLE });
    const ca = await createCa({ trustDomain: LOGIN_DOMAIN, now: Date.now(), days: 10 });
    const authority = await createAuthority();
    const directory = new ProviderDirectory({ logger: SILENT_LOGGER, allowPrivate: ["127.0.0.1"] });
    const ground = new LoginGround({ store, provider, ca, authority }, { folder, directory });
    await ground.addProvider("main", change);
    return ground;
  }

  /** The network document of now. */
  async network(): Promise<string> {
    return await signNetworkDocument(this.authority, {
      rev: await this.store.revision(),
      iat: Math.floor(Date.now() / 1000),
      trustDomain: LOGIN_DOMAIN,
      roots: [this.ca.certificatePem],
      authorities: [this.authority.publicJwk],
      controllers: this.controllers,
      relays: [],
      trustDomains: [],
      revoked: [],
    });
  }

  /** Configures a provider; by default the ground's own. */
  async addProvider(name: string, change: Partial<AuthProviderSpec> = {}): Promise<string> {
    const { issuer, clientId } = this.provider;
    const spec: AuthProviderSpec = {
      issuer,
      clientId,
      scopes: ["openid", "profile", "offline_access"],
      nameClaim: "preferred_username",
      rules: [{ claim: "groups", roleAttributes: ["{value}"] }],
      requireMatch: false,
      disabled: false,
      ...change,
    };
    const written = await this.store.transaction((tx) => tx.create("auth-provider", { name, spec }));
    if (!written.ok) throw new Error(written.fault);
    return written.value.id;
  }

  /** Changes a provider or an identity. */
  async change(
    kind: "auth-provider" | "identity",
    key: string,
    change: Partial<AuthProviderSpec> | Partial<IdentitySpec>,
  ): Promise<void> {
    await this.store.transaction(async (tx) => {
      const found = await tx.find(kind, key);
      const written = await tx.update(kind, found!.id, { spec: { ...found!.spec, ...change } as never });
      if (!written.ok) throw new Error(written.fault);
    });
  }

  /** A token that the provider's own key signs; `claims` replace what a good one has. */
  async token(claims: Readonly<Record<string, unknown>>, key: JWK = this.provider.keys[0]!): Promise<string> {
    const now = Math.floor((Date.now() + this.skew) / 1000);
    const { issuer: iss, clientId: aud } = this.provider;
    const payload = {
      iss,
      aud,
      sub: "u-alice",
      iat: now,
      exp: now + 300,
      preferred_username: "Alice",
      ...claims,
    };
    const header = { alg: key.alg!, kid: key.kid! };
    return await new SignJWT(payload as never).setProtectedHeader(header).sign(
      await importJWK(key, key.alg!),
    );
  }

  /** A whole login with a token of these claims; anything of the request may be replaced. */
  async login(
    claims: Readonly<Record<string, unknown>> = {},
    change: Partial<Parameters<LoginService["login"]>[0]> = {},
  ): ReturnType<LoginService["login"]> {
    const { challenge } = await this.service.challenge();
    const request = {
      provider: "main",
      idToken: await this.token({ nonce: nonceOf(change.challenge ?? challenge), ...claims }),
      csr: await makeCsr(await generateKeyPair()),
      challenge,
      ...change,
    };
    return await this.service.login(request, { remote: "192.0.2.1" });
  }

  /** Who the API takes the bearer of this token for. */
  bearer(token: string): ReturnType<typeof verifyOidcBearer> {
    return verifyOidcBearer(token, { store: this.store, providers: this.providers, now: Date.now });
  }

  /** The newest audit entry's outcome and reason. */
  async lastAudit() {
    const [entry] = await this.store.queryAudit({ limit: 1 });
    return { ...entry!, reason: entry!.detail.reason };
  }

  async #issue({ name, publicKey }: { readonly name: string; readonly publicKey: CryptoKey }) {
    const now = Date.now();
    const { certificatePem: certificate } = await issueCertificate(this.ca, {
      kind: "user",
      name,
      now,
      days: this.userDays,
      publicKey,
    });
    const { serial, notAfter } = parseCertificatesPem(certificate)[0]!;
    return { certificate, serial, notAfter, issuedAt: now, issuer: "ca" };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.provider[Symbol.asyncDispose]();
    await this.store[Symbol.asyncDispose]();
    await Deno.remove(this.#folder, { recursive: true });
  }
}
