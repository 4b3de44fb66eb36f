/** A running API for tests: real administration on a real SQLite database, over a real server, with a clock of ours. */

import assert from "node:assert/strict";
import { createApi } from "../../src/api/app.ts";
import { createRouter } from "../../src/api/env.ts";
import type { ApiLimits, NodeRouterMount } from "../../src/api/ports.ts";
import { requireNode } from "../../src/api/require_node.ts";
import { parsePrefix } from "../../src/base/ip.ts";
import { createLogger } from "../../src/base/log.ts";
import { AdminAuth } from "../../src/control/admin/admin_auth.ts";
import { NetworkAdmin } from "../../src/control/admin/network_admin.ts";
import { NodeAuth } from "../../src/control/admin/node_auth.ts";
import type { SessionRecord, Store } from "../../src/control/store.ts";
import type { AdminRole } from "../../src/core/network/resources.ts";
import { serviceNetworkOf } from "../../src/core/service/service_network.ts";
import type { Identity } from "../../src/identity/identity_file.ts";
import { createProof, ProofVerifier } from "../../src/identity/proof.ts";
import { validateEgress } from "../../src/modes/controller/validate_egress.ts";
import { openStore } from "../../src/store/open_store.ts";
import { OpenApiChecker } from "./openapi_checker.ts";
import { createTestNetwork, NOW, type TestNetwork } from "../identity/forge.ts";

/** The controller's own name: what proofs must be made for. */
export const CONTROLLER = "controller-1";

/** The network's trust domain. */
export const DOMAIN = "test.internal";

const MINUTE = 60_000;

/** What a request may carry. */
export interface CallOptions {
  /** Undefined: an administrator's; null: none. */
  readonly token?: string | null;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** An answer. */
export interface Answer {
  readonly status: number;
  // deno-lint-ignore no-explicit-any -- tests look into answers of every shape
  readonly json: any;
  readonly headers: Headers;
}

/** How to start. */
export interface ApiGroundOptions {
  readonly limits?: Partial<ApiLimits>;
  readonly mounts?: readonly NodeRouterMount[];
  readonly pool?: string;
  /** True: act by the network's first token, not by one made with it. */
  readonly keepFirstToken?: boolean;
  readonly oidc?: (token: string) => Promise<{ readonly who: string; readonly role: AdminRole } | undefined>;
}

/** Enough that no test of something else is limited. */
const GENEROUS = { perSecond: 100_000, burst: 100_000 };

/** A controller's API and all behind it. */
export class ApiGround implements AsyncDisposable {
  readonly network: TestNetwork;
  readonly store: Store;
  readonly admin: NetworkAdmin;
  readonly ended: SessionRecord[] = [];
  readonly logLines: string[] = [];
  /** What calls use unless told otherwise: an administrator's token. */
  token = "";
  /** The controller's clock. */
  now = NOW;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #folder: string;
  #checker: OpenApiChecker | undefined;

  private constructor(
    parts: { network: TestNetwork; store: Store; folder: string },
    options: ApiGroundOptions,
  ) {
    const { network, store, folder } = parts;
    this.network = network;
    this.store = store;
    this.#folder = folder;
    const now = () => this.now;
    const logger = createLogger({ level: "trace", write: (line) => this.logLines.push(line) });
    const verifier = new ProofVerifier({
      roots: [network.ca.certificatePem],
      audience: CONTROLLER,
      trustDomain: DOMAIN,
      now,
    });
    const nodes = new NodeAuth({ store, verify: (token) => verifier.verify(token) });
    const verifyProof = (token: string) => nodes.verify(token);
    this.admin = new NetworkAdmin({
      store,
      trustDomain: DOMAIN,
      source: `spiffe://${DOMAIN}/controller/${CONTROLLER}`,
      now,
      services: serviceNetworkOf({ zone: "ginnel.internal", ipv4: parsePrefix("10.101.0.0/16")! }, DOMAIN),
      validateEgress,
      createEnrolmentToken: async (identityId) => {
        const enrolment = {
          id: crypto.randomUUID(),
          identityId,
          createdAt: this.now,
          expiresAt: this.now + 60 * MINUTE,
          usedAt: null,
        };
        await store.transaction((tx) => tx.addEnrolment(enrolment));
        return { ok: true, value: { token: `secret-of-${enrolment.id}`, enrolment } };
      },
      roots: () => [network.ca.certificatePem],
      allocation: (_client, time) => ({
        now: time,
        ipv4: options.pool ?? "10.100.0.0/24",
        ipv6: null,
        reclaimBefore: time - 30 * 24 * 60 * MINUTE,
      }),
      endSession: (session) => Promise.resolve(void this.ended.push(session)),
    });
    const auth = new AdminAuth({
      store,
      now,
      logger,
      verifyProof,
      ...(options.oidc === undefined ? {} : { verifyOidcBearer: options.oidc }),
    });
    const api = createApi({
      admin: this.admin,
      authenticate: (bearer) => auth.authenticate(bearer),
      verifyProof,
      nodeRouters: options.mounts ?? [{ path: "/test/v1", router: echoRouter() }],
      health: () => ({ ready: true, uptime: 5_000 }),
      logger,
      now,
      limits: { admin: GENEROUS, node: GENEROUS, strict: GENEROUS, principal: GENEROUS, ...options.limits },
    });
    this.#server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      (request, info) => api.fetch(request, info),
    );
  }

  static async start(options: ApiGroundOptions = {}): Promise<ApiGround> {
    const network = await createTestNetwork(DOMAIN, NOW);
    const folder = await Deno.makeTempDir({ prefix: "ginnel-api-" });
    const holder: { ground?: ApiGround } = {};
    const store = await openStore({ kind: "sqlite", path: `${folder}/ginnel.db` }, {
      logger: createLogger({ level: "error" }),
      now: () => holder.ground?.now ?? NOW,
    });
    const ground = new ApiGround({ network, store, folder }, options);
    holder.ground = ground;
    ground.#checker = new OpenApiChecker((await ground.call("GET", "//openapi.json", { token: null })).json);
    const token = await ground.admin.ensureBootstrap();
    assert.ok(token !== undefined);
    ground.token = token;
    if (options.keepFirstToken !== true) await ground.tokenOf("admin");
    return ground;
  }

  /** Every answer to {@linkcode call} is held against the served document. */
  get checker(): OpenApiChecker {
    assert.ok(this.#checker !== undefined);
    return this.#checker;
  }

  get port(): number {
    return this.#server.addr.port;
  }

  /** Asks for a path below `/api/v1`, or for another that begins with `//`. */
  async call(method: string, path: string, options: CallOptions = {}): Promise<Answer> {
    const { token = this.token, body, headers = {} } = options;
    const target = path.startsWith("//") ? path.slice(1) : `/api/v1${path}`;
    const response = await fetch(`http://127.0.0.1:${this.port}${target}`, {
      method,
      headers: {
        ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const json = text === "" ? undefined : JSON.parse(text);
    // Routes that a test mounts are in no document.
    if (!target.endsWith("/openapi.json") && !/^\/(?:test|broken)\//.test(target)) {
      const type = response.headers.get("content-type") ?? "";
      this.checker.check(method, target, { status: response.status, json, type });
    }
    return { status: response.status, json, headers: response.headers };
  }

  /** Makes something and returns it. */
  async make(path: string, body: unknown): Promise<Answer["json"]> {
    const answer = await this.call("POST", path, { body });
    assert.equal(answer.status, 201, JSON.stringify(answer.json));
    return answer.json;
  }

  /** A token of a role, perhaps confined. */
  async tokenOf(role: AdminRole, scopes: readonly string[] = []): Promise<string> {
    const keeper = this.token;
    const { token } = await this.make("/api-tokens", { name: `t-${crypto.randomUUID()}`, role, scopes });
    // The first administrator's token ends the one that made it.
    if (role === "admin" && scopes.length === 0) this.token = token;
    else this.token = keeper;
    return token;
  }

  /** An identity of the network with its certificate, as after an enrolment. */
  async node(kind: "relay" | "agent" | "user" | "connector", name: string, fields: object = {}): Promise<{
    readonly resource: Answer["json"];
    readonly identity: Identity;
    readonly serial: string;
  }> {
    const resource = await this.make("/identities", { name, type: kind, ...fields });
    const identity = await this.network.identity(kind, name);
    const { certificateSerial: serial } = await new ProofVerifier({
      roots: [this.network.ca.certificatePem],
      audience: "elsewhere",
      trustDomain: DOMAIN,
      now: () => this.now,
    }).verify(await createProof({ identity, audience: "elsewhere", now: this.now }));
    await this.store.transaction((tx) =>
      tx.addCertificate({
        serial,
        identityId: resource.id,
        spiffeId: identity.id.uri,
        issuedAt: this.now,
        notAfter: identity.notAfter,
        issuer: "ca",
        revokedAt: null,
      })
    );
    return { resource, identity, serial };
  }

  /** A proof for this controller. */
  prove(identity: Identity, audience = CONTROLLER): Promise<string> {
    return createProof({ identity, audience, now: this.now });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
    await this.store[Symbol.asyncDispose]();
    await Deno.remove(this.#folder, { recursive: true });
  }
}

/** Tells a node who it is. */
function echoRouter() {
  const router = createRouter();
  router.use(requireNode({ kinds: ["relay", "agent"] }));
  router.get("/whoami", (context) => context.json({ id: context.get("node").id.uri }));
  router.post(
    "/size",
    async (context) => context.json({ size: (await context.req.arrayBuffer()).byteLength }),
  );
  return router;
}
