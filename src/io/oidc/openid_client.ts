/**
 * The device's side of OpenID: authorization code with PKCE, device code, refresh and revocation. The tokens go to the
 * controller, which verifies them; here only their owner looks at them.
 */

import * as oauth from "oauth4webapi";
import { sleep } from "../../base/async.ts";
import { errorMessage, GinnelError } from "../../base/errors.ts";
import { parseIp } from "../../base/ip.ts";
import { CallbackListener } from "./callback_listener.ts";
import { isLoopback } from "./public_address.ts";

/** A provider's client, as the controller names it. */
export interface OpenidClientOptions {
  readonly issuer: string;
  readonly clientId: string;
  readonly scopes: readonly string[];
  /** CA certificates, PEM, trusted beside the built-in ones. */
  readonly roots?: readonly string[];
}

/** Tokens of a login. */
export interface OpenidTokens {
  readonly idToken: string;
  /** Undefined where the provider gives none. */
  readonly refreshToken: string | undefined;
}

/** What a person needs to go on at another device. */
export interface DeviceInstructions {
  readonly url: string;
  /** The address with the code in it already, if the provider has one. */
  readonly completeUrl: string | undefined;
  readonly code: string;
}

const REQUEST_TIMEOUT_MS = 15_000;

/** How often to ask for a device login when the provider does not say, and how much slower it may tell us to be. */
const POLL_SECONDS = 5;

/** Speaks to one provider. */
export class OpenidClient implements Disposable {
  readonly #options: OpenidClientOptions;
  readonly #client: oauth.Client;
  readonly #http: Deno.HttpClient;
  #server: oauth.AuthorizationServer | undefined;

  constructor(options: OpenidClientOptions) {
    this.#options = options;
    this.#client = { client_id: options.clientId };
    this.#http = Deno.createHttpClient({ caCerts: [...options.roots ?? []] });
  }

  /** Logs in by a browser on this machine: `show` gets the address to open. */
  async loginByBrowser(
    options: { readonly nonce: string; readonly show: (url: string) => void; readonly signal: AbortSignal },
  ): Promise<OpenidTokens> {
    const { nonce, show, signal } = options;
    const server = await this.#discover(signal);
    if (server.authorization_endpoint === undefined) throw this.#lacks("logins by browser");
    const state = oauth.generateRandomState();
    const verifier = oauth.generateRandomCodeVerifier();
    await using listener = new CallbackListener(state);
    const { redirectUri } = listener;
    const url = new URL(server.authorization_endpoint);
    const parameters = {
      client_id: this.#client.client_id,
      response_type: "code",
      redirect_uri: redirectUri,
      ...this.#scope(),
      nonce,
      state,
      // RFC 8252 §8.1: whoever catches the code on its way cannot use it.
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
      code_challenge_method: "S256",
    };
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
    show(url.href);
    const answer = await listener.answer(signal);
    return await this.#attempt(async () => {
      const found = oauth.validateAuthResponse(server, this.#client, answer, state);
      const response = await oauth.authorizationCodeGrantRequest(
        server,
        this.#client,
        oauth.None(),
        found,
        redirectUri,
        verifier,
        this.#request(signal),
      );
      return tokensOf(
        await oauth.processAuthorizationCodeResponse(server, this.#client, response, {
          expectedNonce: nonce,
          requireIdToken: true,
        }),
      );
    });
  }

  /** Logs in by a browser anywhere: `show` gets the address and the code to enter there. */
  async loginByDevice(
    options: {
      readonly nonce: string;
      readonly show: (instructions: DeviceInstructions) => void;
      readonly signal: AbortSignal;
    },
  ): Promise<OpenidTokens> {
    const { nonce, show, signal } = options;
    const server = await this.#discover(signal);
    if (server.device_authorization_endpoint === undefined) throw this.#lacks("device codes");
    return await this.#attempt(async () => {
      const asked = await oauth.deviceAuthorizationRequest(
        server,
        this.#client,
        oauth.None(),
        { ...this.#scope(), nonce },
        this.#request(signal),
      );
      const device = await oauth.processDeviceAuthorizationResponse(server, this.#client, asked);
      const { verification_uri: url, verification_uri_complete: completeUrl, user_code: code } = device;
      show({ url, completeUrl, code });
      return await this.#poll({ server, signal, deviceCode: device.device_code, interval: device.interval });
    });
  }

  /** Gets a new ID token without the user; a provider may hand out a new refresh token too. */
  async refresh(refreshToken: string, signal: AbortSignal): Promise<OpenidTokens> {
    const server = await this.#discover(signal);
    return await this.#attempt(async () => {
      const response = await oauth.refreshTokenGrantRequest(
        server,
        this.#client,
        oauth.None(),
        refreshToken,
        this.#request(signal),
      );
      const tokens = tokensOf(await oauth.processRefreshTokenResponse(server, this.#client, response));
      return { ...tokens, refreshToken: tokens.refreshToken ?? refreshToken };
    });
  }

  /** Takes a refresh token back; false where the provider has no way to. */
  async revoke(refreshToken: string, signal: AbortSignal): Promise<boolean> {
    const server = await this.#discover(signal);
    if (server.revocation_endpoint === undefined) return false;
    return await this.#attempt(async () => {
      const options = {
        ...this.#request(signal),
        additionalParameters: { token_type_hint: "refresh_token" },
      };
      const response = await oauth.revocationRequest(
        server,
        this.#client,
        oauth.None(),
        refreshToken,
        options,
      );
      await oauth.processRevocationResponse(response);
      return true;
    });
  }

  [Symbol.dispose](): void {
    this.#http.close();
  }

  async #poll(
    { server, signal, deviceCode, interval }: {
      readonly server: oauth.AuthorizationServer;
      readonly signal: AbortSignal;
      readonly deviceCode: string;
      readonly interval: number | undefined;
    },
  ): Promise<OpenidTokens> {
    let seconds = interval ?? POLL_SECONDS;
    for (;;) {
      await sleep(seconds * 1000, { signal });
      const response = await oauth.deviceCodeGrantRequest(
        server,
        this.#client,
        oauth.None(),
        deviceCode,
        this.#request(signal),
      );
      try {
        return tokensOf(await oauth.processDeviceCodeResponse(server, this.#client, response));
      } catch (error) {
        const reason = error instanceof oauth.ResponseBodyError ? error.error : undefined;
        // RFC 8628 §3.5: ask again, and from now on five seconds later when told to slow down.
        if (reason === "slow_down") seconds += 5;
        else if (reason !== "authorization_pending") throw error;
      }
    }
  }

  async #discover(signal: AbortSignal): Promise<oauth.AuthorizationServer> {
    if (this.#server !== undefined) return this.#server;
    const issuer = new URL(this.#options.issuer);
    return this.#server = await this.#attempt(async () => {
      const response = await oauth.discoveryRequest(issuer, this.#request(signal));
      return await oauth.processDiscoveryResponse(issuer, response);
    });
  }

  /** Consent is asked for again: without it, providers give no refresh token. */
  #scope(): { readonly scope: string; readonly prompt?: string } {
    const scopes = [...new Set(["openid", ...this.#options.scopes])];
    const scope = scopes.join(" ");
    return scopes.includes("offline_access") ? { scope, prompt: "consent" } : { scope };
  }

  #request(signal: AbortSignal) {
    const host = new URL(this.#options.issuer).hostname.replace(/^\[|\]$/g, "");
    const address = parseIp(host);
    return {
      signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
      [oauth.customFetch]: async (url: string, init: unknown) => {
        try {
          return await fetch(url, { ...init as RequestInit, redirect: "error", client: this.#http });
        } catch (cause) {
          signal.throwIfAborted();
          // What fetch says by itself is only that it failed.
          const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
          throw new ProviderAway(errorMessage(reason), { cause });
        }
      },
      // Tokens in the clear only to a provider on this very machine.
      [oauth.allowInsecureRequests]: address !== undefined && isLoopback(address),
    };
  }

  async #attempt<T>(task: () => Promise<T>): Promise<T> {
    try {
      return await task();
    } catch (cause) {
      if (cause instanceof GinnelError) throw cause;
      const absence = absenceIn(cause);
      if (absence !== undefined) throw this.#unreachable(absence, cause);
      throw new GinnelError(
        "ERR_OIDC_LOGIN",
        `Cannot log in at ${this.#options.issuer}: ${describe(cause)}`,
        {
          cause,
          hint: "Run ginnel login again",
        },
      );
    }
  }

  #unreachable(reason: string, cause: unknown): GinnelError {
    const hint = /certificate|UnknownIssuer/i.test(reason)
      ? "If its certificate comes from a CA of your own, log in with --provider-ca FILE"
      : "Try again once this machine can reach it; agents that run go on until their certificate ends";
    return new GinnelError(
      "ERR_OIDC_UNREACHABLE",
      `Cannot reach the provider ${this.#options.issuer}: ${reason}`,
      { cause, hint },
    );
  }

  #lacks(what: string): GinnelError {
    return new GinnelError("ERR_OIDC_LOGIN", `Cannot log in at ${this.#options.issuer}: it has no ${what}`, {
      hint: "Try the other way of ginnel login, with or without --device",
    });
  }
}

function tokensOf(response: oauth.TokenEndpointResponse): OpenidTokens {
  if (response.id_token === undefined) {
    throw new GinnelError("ERR_OIDC_LOGIN", "Cannot log in: the provider gave no ID token");
  }
  return { idToken: response.id_token, refreshToken: response.refresh_token };
}

/** The provider could not be asked, or not in time. */
class ProviderAway extends Error {
  override readonly name = "ProviderAway";
}

/** Why there was no answer, or only one of a server that cannot serve now; undefined where there was another. */
function absenceIn(error: unknown): string | undefined {
  if (error instanceof ProviderAway) return error.message;
  const response = error instanceof Error ? error.cause : undefined;
  return response instanceof Response && response.status >= 500
    ? `it answers with status ${response.status}`
    : undefined;
}

/** Errors of providers carry a code and at best a sentence; neither holds a token. */
function describe(error: unknown): string {
  if (error instanceof oauth.ResponseBodyError || error instanceof oauth.AuthorizationResponseError) {
    return error.error_description === undefined ? error.error : `${error.error}: ${error.error_description}`;
  }
  return errorMessage(error);
}
