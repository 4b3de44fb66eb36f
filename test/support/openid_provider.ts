/**
 * A real OpenID provider on loopback, and a browser that logs somebody in at it: pages, forms and cookies.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, type JWK } from "jose";
import Provider, { type Configuration } from "oidc-provider";
import { OpenidStorage } from "./openid_storage.ts";

/** A person at the provider: `sub` and any other claims. */
export type Person = Readonly<Record<string, unknown>> & { readonly sub: string };

/** What the provider is like. */
export interface OpenidProviderOptions {
  readonly clientId?: string;
  readonly people?: readonly Person[];
  /** Key and certificate, PEM: serve https. The root, for the browser. */
  readonly tls?: { readonly key: string; readonly cert: string; readonly root?: string };
  /** Changes to the provider's own configuration. */
  readonly configuration?: Configuration;
}

const MAX_STEPS = 20;

/** The provider; people are changed by replacing entries of `people`. */
export class OpenidProvider implements AsyncDisposable {
  readonly issuer: string;
  readonly clientId: string;
  readonly people = new Map<string, Person>();
  /** Paths asked for, in order. */
  readonly requests: string[] = [];
  /** Answers in the provider's place when it returns true. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean = () => false;
  /** The private keys that sign, RS256 first. */
  keys: JWK[] = [];
  readonly #server: Server;
  readonly #configuration: Configuration;
  readonly #storage = new OpenidStorage();
  readonly #root: string | undefined;
  #handle: ((request: IncomingMessage, response: ServerResponse) => void) | undefined;

  private constructor(server: Server, options: OpenidProviderOptions) {
    const { port } = server.address() as AddressInfo;
    this.#server = server;
    this.#configuration = options.configuration ?? {};
    this.#root = options.tls?.root;
    this.issuer = `${options.tls === undefined ? "http://127.0.0.1" : "https://localhost"}:${port}`;
    this.clientId = options.clientId ?? "ginnel";
    for (const person of options.people ?? []) this.people.set(person.sub, person);
    server.on("request", (request, response) => {
      this.requests.push(new URL(request.url!, this.issuer).pathname);
      if (this.intercept(request, response)) return;
      if (this.#handle === undefined) response.writeHead(503).end();
      else this.#handle(request, response);
    });
  }

  /** Starts a provider. */
  static async start(options: OpenidProviderOptions = {}): Promise<OpenidProvider> {
    const server = options.tls === undefined ? createServer() : createTlsServer(options.tls);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const provider = new OpenidProvider(server as Server, options);
    await provider.rotateKeys();
    return provider;
  }

  /** Replaces the signing keys; everything else stays as it is. */
  async rotateKeys(): Promise<void> {
    this.keys = await Promise.all([signingKey("RS256"), signingKey("ES256")]);
    const provider = new Provider(this.issuer, {
      adapter: (kind: string) => this.#storage.of(kind),
      clients: [{
        client_id: this.clientId,
        token_endpoint_auth_method: "none",
        application_type: "native",
        grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        response_types: ["code"],
        redirect_uris: ["http://127.0.0.1/callback"],
      }],
      conformIdTokenClaims: false,
      scopes: ["openid", "offline_access", "profile", "email"],
      claims: {
        openid: ["sub", "groups", "realm_access"],
        profile: ["name", "preferred_username"],
        email: ["email", "email_verified"],
      },
      cookies: { keys: ["only for tests"] },
      features: {
        devInteractions: { enabled: true },
        deviceFlow: { enabled: true },
        revocation: { enabled: true },
      },
      findAccount: (_context: unknown, sub: string) => {
        const person = this.people.get(sub);
        return person && { accountId: sub, claims: () => ({ ...person }) };
      },
      ttl: {
        AccessToken: 600,
        IdToken: 600,
        RefreshToken: 3600,
        Grant: 3600,
        Interaction: 600,
        Session: 600,
      },
      ...this.#configuration,
      jwks: { keys: this.keys as never },
    });
    this.#handle = provider.callback();
  }

  /**
   * Logs `person` in as a browser does, from `url` on, and agrees to everything; resolves with the address outside
   * the provider to which the browser is sent at last, or undefined when it stays on a page.
   */
  async browse(url: string, person: string): Promise<string | undefined> {
    using browser = new Browser(this.#root);
    let page = await browser.open(url);
    for (let step = 0; step < MAX_STEPS; step++) {
      if (page.leaves !== undefined) return page.leaves;
      const form = formOf(page.body, page.url);
      if (form === undefined) return undefined;
      if (form.fields.has("login")) form.fields.set("login", person);
      if (form.fields.has("password")) form.fields.set("password", "x");
      page = await browser.open(form.action, form.fields);
    }
    throw new Error(`No end after ${MAX_STEPS} pages: ${page.body.slice(0, 500)}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Cookies and redirects, and nothing else of a browser. */
class Browser implements Disposable {
  readonly #cookies = new Map<string, string>();
  readonly #http: Deno.HttpClient;

  constructor(root: string | undefined) {
    this.#http = Deno.createHttpClient({ caCerts: root === undefined ? [] : [root] });
  }

  [Symbol.dispose](): void {
    this.#http.close();
  }

  async open(
    url: string,
    fields?: URLSearchParams,
  ): Promise<{ readonly url: string; readonly body: string; readonly leaves?: string }> {
    const { origin } = new URL(url);
    let target = url;
    let form = fields;
    for (let step = 0; step < MAX_STEPS; step++) {
      const response = await fetch(target, {
        redirect: "manual",
        client: this.#http,
        headers: { cookie: [...this.#cookies].map(([name, value]) => `${name}=${value}`).join("; ") },
        ...(form === undefined ? {} : { method: "POST", body: form }),
      });
      for (const cookie of response.headers.getSetCookie()) {
        const [name, value] = cookie.split(";")[0]!.split("=") as [string, string];
        if (value === "") this.#cookies.delete(name);
        else this.#cookies.set(name, value);
      }
      const location = response.headers.get("location");
      const body = await response.text();
      if (location === null) return { url: target, body };
      const next = new URL(location, target).href;
      if (new URL(next).origin !== origin) return { url: target, body, leaves: next };
      target = next;
      form = undefined;
    }
    throw new Error(`No end after ${MAX_STEPS} redirects`);
  }
}

function formOf(
  page: string,
  url: string,
): { readonly action: string; readonly fields: URLSearchParams } | undefined {
  const form = /<form[^>]*action="([^"]*)"[^>]*>([\s\S]*?)<\/form>/.exec(page);
  if (form === null) return undefined;
  const fields = new URLSearchParams();
  for (const [input] of form[2]!.matchAll(/<input[^>]*>/g)) {
    const name = /name="([^"]*)"/.exec(input)?.[1];
    if (name !== undefined) fields.set(name, /value="([^"]*)"/.exec(input)?.[1] ?? "");
  }
  return { action: new URL(form[1]!.replaceAll("&amp;", "&"), url).href, fields };
}

async function signingKey(alg: "RS256" | "ES256"): Promise<JWK> {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...await exportJWK(privateKey), alg, use: "sig", kid: crypto.randomUUID() };
}
