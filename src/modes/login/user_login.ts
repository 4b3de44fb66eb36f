/**
 * A user's login from the device's side: a challenge of the controller, an ID token of the provider, a new key, and the
 * identity file that comes of it.
 */

import { z } from "zod";
import { GinnelError } from "../../base/errors.ts";
import { nonceOf } from "../../control/login/login_challenge.ts";
import { makeCsr } from "../../identity/csr.ts";
import { exportPrivateKey, generateKeyPair } from "../../identity/key_pair.ts";
import { formatIdentity, type Identity, loadIdentity, parseIdentity } from "../../identity/identity_file.ts";
import { introduceNetworkDocument, toNodeNetwork } from "../../identity/network_document.ts";
import { createProof } from "../../identity/proof.ts";
import { writeSecretFile } from "../../identity/secret_file.ts";
import { parseSpiffeId } from "../../identity/spiffe_id.ts";
import { ControllerHttp, type ControllerResponse } from "../../io/controller/https_client.ts";
import { type DeviceInstructions, OpenidClient } from "../../io/oidc/openid_client.ts";
import { Certified } from "../enrol/controller_answer.ts";
import { renewIdentity } from "../enrol/renew_identity.ts";
import { lockLogin, type LoginFile, loginFilePath, readLoginFile, writeLoginFile } from "./login_file.ts";
import { homeOfIdentity, type LoginHome } from "./login_home.ts";

/** How to log in. */
export interface UserLoginOptions {
  readonly home: LoginHome;
  /** The identity file to write. */
  readonly path: string;
  /** Name of the provider; may be left out where there is one only. */
  readonly provider?: string | undefined;
  /** Show a code to enter at another device in place of an address to open here. */
  readonly device: boolean;
  /** CA certificates for the provider, PEM. */
  readonly providerRoots: readonly string[];
  readonly show: (instructions: { readonly url: string } | DeviceInstructions) => void;
  readonly signal: AbortSignal;
}

/** What came of a login. */
export interface LoggedIn {
  /** SPIFFE ID. */
  readonly identity: string;
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
  readonly provider: string;
  /** Whether a refresh needs no browser. */
  readonly canRefresh: boolean;
}

const Providers = z.object({
  data: z.array(z.object({
    name: z.string(),
    issuer: z.string(),
    clientId: z.string(),
    scopes: z.array(z.string()),
  })),
});
const Challenge = z.object({ challenge: z.string() });
const Problem = z.object({ title: z.string(), detail: z.string().optional() });

/** Logs a user in by a browser, here or elsewhere, and writes the identity and what a refresh needs. */
export async function loginUser(options: UserLoginOptions): Promise<LoggedIn> {
  const { home, path, device, providerRoots, show, signal } = options;
  using controller = clientOf(home);
  const provider = await chooseProvider(controller, options);
  const { challenge } = await ask(controller, { path: "/challenge", schema: Challenge, signal });
  const { issuer, clientId, scopes } = provider;
  using openid = new OpenidClient({ issuer, clientId, scopes, roots: providerRoots });
  const nonce = nonceOf(challenge);
  const { idToken, refreshToken = null } = device
    ? await openid.loginByDevice({ nonce, signal, show })
    : await openid.loginByBrowser({ nonce, signal, show: (url) => show({ url }) });
  const file = {
    version: 1 as const,
    provider: provider.name,
    issuer,
    clientId,
    scopes,
    origin: challenge,
    refreshToken,
    providerRoots: [...providerRoots],
  };
  const keys = await generateKeyPair();
  const csr = await makeCsr(keys);
  const certified = await certify(controller, { file, challenge, idToken, csr, signal });
  using _mine = await lockLogin(path, signal);
  const { id, notAfter } = await writeIdentity(path, { certified, keys, home });
  await writeLoginFile(path, file);
  return { identity: id.uri, notAfter, provider: provider.name, canRefresh: refreshToken !== null };
}

/** Logs the user of an identity file in again by the refresh token. */
export async function refreshUser(
  path: string,
  { signal }: { readonly signal: AbortSignal },
): Promise<LoggedIn> {
  const current = await loadIdentity(path, { evenExpired: true });
  const request = (csr: string) => certifyAgain(current, { path, csr, signal });
  const { id, notAfter } = await renewIdentity({ path, current, request, now: Date.now });
  const { provider, refreshToken } = await readLoginFile(path);
  return { identity: id.uri, notAfter, provider, canRefresh: refreshToken !== null };
}

/** A new certificate for the user of an identity file, by the refresh token beside it. */
export async function certifyAgain(
  current: Identity,
  { path, csr, signal }: { readonly path: string; readonly csr: string; readonly signal: AbortSignal },
): Promise<Certified> {
  using _mine = await lockLogin(path, signal);
  const file = await readLoginFile(path);
  const { issuer, clientId, scopes, providerRoots, refreshToken } = file;
  if (refreshToken === null) {
    throw new GinnelError(
      "ERR_LOGIN_NO_REFRESH",
      "Cannot refresh the login: the provider gave no refresh token",
      {
        hint: "Log in again with: ginnel login; ask the administrator for scope offline_access to avoid it",
      },
    );
  }
  using controller = clientOf(homeOfIdentity(current, path));
  const { challenge } = await ask(controller, { path: "/challenge", schema: Challenge, signal });
  using openid = new OpenidClient({ issuer, clientId, scopes, roots: providerRoots });
  const tokens = await openid.refresh(refreshToken, signal);
  const next = { ...file, refreshToken: tokens.refreshToken ?? null };
  // A provider may take the old refresh token back with its first use: the new one must not be lost, whatever follows.
  await writeLoginFile(path, next);
  const certified = await certify(controller, {
    file: next,
    challenge,
    idToken: tokens.idToken,
    csr,
    signal,
  });
  if (certified.identity === current.id.uri) return certified;
  throw new GinnelError("ERR_LOGIN_OTHER_USER", `Cannot refresh the login: it is now ${certified.identity}`, {
    hint: "Log in again with: ginnel login",
  });
}

/** Logs out: certificate and refresh token are taken back where they can be, and both files removed in any case. */
export async function logoutUser(
  path: string,
  { signal }: { readonly signal: AbortSignal },
): Promise<{ readonly certificateRevoked: boolean; readonly tokenRevoked: boolean }> {
  // An agent that renews at this moment has its new certificate first, and is logged out with it.
  using _mine = await lockLogin(path, signal);
  const identity = await loadIdentity(path, { evenExpired: true });
  if (identity.id.kind !== "user") {
    throw new GinnelError("ERR_LOGIN_NOT_USER", `Cannot log out with ${path}: it is no user's`);
  }
  const certificateRevoked = identity.notAfter <= Date.now() ||
    await succeeds(() => revokeCertificate(identity, path, signal));
  const tokenRevoked = await succeeds(() => revokeToken(path, signal));
  for (const file of [path, loginFilePath(path)]) {
    await Deno.remove(file).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }
  return { certificateRevoked, tokenRevoked };
}

function certify(
  controller: ControllerHttp,
  job: {
    readonly file: LoginFile;
    readonly challenge: string;
    readonly idToken: string;
    readonly csr: string;
    readonly signal: AbortSignal;
  },
): Promise<Certified> {
  const { file: { provider, origin }, challenge, idToken, csr, signal } = job;
  const json = { provider, idToken, csr, challenge, ...(origin === challenge ? {} : { origin }) };
  return ask(controller, { path: "/login", schema: Certified, signal, json });
}

/**
 * Writes what a first login gives. The authorities are learnt from the document itself: it came over a connection that the
 * network's pinned CA vouches for.
 */
async function writeIdentity(
  path: string,
  { certified, keys, home }: {
    readonly certified: Certified;
    readonly keys: CryptoKeyPair;
    readonly home: LoginHome;
  },
): Promise<Identity> {
  const { trustDomain } = home;
  const network = await introduceNetworkDocument(certified.network, { trustDomain });
  const text = formatIdentity({
    id: parseSpiffeId(certified.identity),
    certificatePem: certified.certificate,
    privateKeyPem: await exportPrivateKey(keys.privateKey),
    trust: { domain: network.trustDomain, roots: network.roots, authorities: network.authorities },
    network: toNodeNetwork(network),
  });
  const identity = await parseIdentity(text, { source: path, now: Date.now() });
  await writeSecretFile(path, text, { replace: true });
  return identity;
}

function clientOf(home: LoginHome): ControllerHttp {
  return new ControllerHttp({ controllers: () => home.controllers, roots: () => home.roots });
}

async function chooseProvider(controller: ControllerHttp, { provider, signal }: UserLoginOptions) {
  const { data } = await ask(controller, { path: "/providers", schema: Providers, signal });
  const found = provider === undefined && data.length === 1
    ? data[0]
    : data.find(({ name }) => name === provider);
  if (found !== undefined) return found;
  const names = data.map(({ name }) => name).join(", ");
  const wanted = provider === undefined ? "there are several providers" : `there is no provider ${provider}`;
  throw new GinnelError(
    "ERR_LOGIN_PROVIDER",
    `Cannot log in: ${data.length === 0 ? "there is no provider" : wanted}`,
    {
      hint: names === "" ? "Ask the administrator to set one up" : `Choose one with --provider: ${names}`,
    },
  );
}

async function ask<T>(
  controller: ControllerHttp,
  request: {
    readonly path: string;
    readonly schema: z.ZodType<T>;
    readonly json?: unknown;
    readonly signal: AbortSignal;
  },
): Promise<T> {
  const { path, schema, json, signal } = request;
  const method = path === "/providers" ? "GET" : "POST";
  // A challenge costs the controller nothing; a login is worth its token once.
  const repeatable = path !== "/login";
  const answer = await controller.request({
    method,
    path: `/login/v1${path}`,
    signal,
    repeatable,
    ...(json === undefined ? {} : { json }),
  });
  const read = answer.status === 200 ? schema.safeParse(answer.json) : undefined;
  if (read?.success === true) return read.data;
  throw refusal(answer);
}

function refusal({ status, json, controller }: ControllerResponse): GinnelError {
  const problem = Problem.safeParse(json);
  const reason = problem.success ? problem.data.detail ?? problem.data.title : `status ${status}`;
  return new GinnelError("ERR_LOGIN_REFUSED", `Cannot log in at ${controller}: ${reason}`);
}

async function revokeCertificate(identity: Identity, path: string, signal: AbortSignal): Promise<boolean> {
  const home = homeOfIdentity(identity, path);
  using controller = new ControllerHttp({
    controllers: () => home.controllers,
    roots: () => home.roots,
    authorization: (audience) => createProof({ identity, audience, now: Date.now() }),
  });
  const { status } = await controller.request({ method: "POST", path: "/login/v1/logout", signal });
  return status === 204;
}

async function revokeToken(path: string, signal: AbortSignal): Promise<boolean> {
  const { issuer, clientId, scopes, providerRoots, refreshToken } = await readLoginFile(path);
  if (refreshToken === null) return true;
  using openid = new OpenidClient({ issuer, clientId, scopes, roots: providerRoots });
  return await openid.revoke(refreshToken, signal);
}

/** A logout goes on when somebody cannot be reached: what is on this machine must go in any case. */
async function succeeds(task: () => Promise<boolean>): Promise<boolean> {
  try {
    return await task();
  } catch {
    return false;
  }
}
