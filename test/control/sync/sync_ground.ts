/** A controller's synchronisation on a real database: its feed, and links to it within the process and over HTTPS. */

import { join } from "node:path";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import type { AdminPort } from "../../../src/api/admin_port.ts";
import { createApi } from "../../../src/api/app.ts";
import { MAX_SYNC_BODY, syncRoutes } from "../../../src/api/nodes/sync_routes.ts";
import type { Store } from "../../../src/control/store.ts";
import { Feed } from "../../../src/control/sync/feed.ts";
import { LocalLink } from "../../../src/control/sync/local_link.ts";
import { RelayLinks } from "../../../src/control/sync/relay_links.ts";
import { WorkloadAdmission } from "../../../src/control/sync/workload_admission.ts";
import { NetworkPublisher } from "../../../src/control/views/network_publisher.ts";
import { ViewService } from "../../../src/control/views/view_service.ts";
import type { ControllerLink } from "../../../src/control/sync/link.ts";
import { type Authority, createAuthority } from "../../../src/identity/authority.ts";
import { IdentityError } from "../../../src/identity/errors.ts";
import { parseIdentity } from "../../../src/identity/identity_file.ts";
import { issueIdentity } from "../../../src/identity/issue_identity.ts";
import { createProof, ProofVerifier } from "../../../src/identity/proof.ts";
import { serverName } from "../../../src/identity/spiffe_id.ts";
import { ControllerHttp } from "../../../src/io/controller/https_client.ts";
import { HttpLink } from "../../../src/modes/relay/controller_link/http_link.ts";
import { openStore } from "../../../src/store/open_store.ts";
import { agentSpec, serviceSpec } from "../../store/store_ground.ts";
import { type TestNetwork, testNetwork } from "../../support/test_network.ts";

/** The network's name. */
export const TRUST_DOMAIN = "example.internal";
const SERVICES = { zone: "ginnel.internal", ipv4: "10.101.0.0/16", ipv6: "fd00::/64" };

/** The relay that links are for. */
export const RELAY = `spiffe://${TRUST_DOMAIN}/relay/relay-1`;

/** A SPIFFE ID of the network. */
export function idOf(path: string): string {
  return `spiffe://${TRUST_DOMAIN}/${path}`;
}

/** A controller's synchronisation. */
export class SyncGround implements AsyncDisposable {
  /** What the controller's config says. */
  surroundings = { trustDomain: TRUST_DOMAIN, roots: ["R1"], pools: { ipv4: "10.1.0.0/24", ipv6: null } };
  readonly #stack = new AsyncDisposableStack();
  readonly folder: string;
  readonly store: Store;
  readonly authority: Authority;
  readonly network: TestNetwork;
  feed!: Feed;
  #links!: RelayLinks;

  static async open(options: { readonly folder?: string } = {}): Promise<SyncGround> {
    const folder = options.folder ?? await Deno.makeTempDir();
    const store = await openStore({ kind: "sqlite", path: join(folder, "ginnel.db") }, {
      logger: SILENT_LOGGER,
    });
    const ground = new SyncGround({
      folder,
      store,
      authority: await createAuthority(),
      network: await testNetwork(TRUST_DOMAIN),
    });
    ground.surroundings = { ...ground.surroundings, roots: [...ground.network.roots] };
    await ground.addIdentity("relay-1", { type: "relay", spiffeId: RELAY, address: "relay.example:4433" });
    await ground.#start();
    return ground;
  }

  private constructor(
    parts: { folder: string; store: Store; authority: Authority; network: TestNetwork },
  ) {
    this.folder = parts.folder;
    this.store = parts.store;
    this.authority = parts.authority;
    this.network = parts.network;
    this.#stack.use(parts.store);
  }

  async #start(): Promise<void> {
    const views = this.#stack.use(
      new ViewService({
        authority: () => this.authority,
        ttl: 3_600_000,
        services: SERVICES,
        logger: SILENT_LOGGER,
        now: Date.now,
      }),
    );
    const network = new NetworkPublisher({
      authority: () => this.authority,
      controllers: () => [{ name: "controller-1", url: "https://controller.example:8441" }],
      now: Date.now,
    });
    this.feed = this.#stack.use(
      await Feed.open({
        store: this.store,
        surroundings: () => this.surroundings,
        views,
        network,
        logger: SILENT_LOGGER,
        now: Date.now,
      }),
    );
    this.#links = new RelayLinks(this.#parts());
  }

  #parts() {
    const { feed, store } = this;
    return {
      feed,
      store,
      allocation: () => ({ ...this.surroundings.pools, reclaimBefore: 0 }),
      workloads: new WorkloadAdmission({
        store,
        state: () => feed.state,
        refresh: () => feed.refresh(),
        source: idOf("controller/controller-1"),
        now: Date.now,
      }),
      now: Date.now,
    };
  }

  /** A link within the process. */
  localLink(relay = RELAY): ControllerLink {
    return new LocalLink({ ...this.#parts(), relay });
  }

  /** Serves the routes on a port of its own and returns a link to them by a relay's certificate. */
  async remoteLink(options: { readonly kind?: "relay" | "agent"; readonly name?: string } = {}) {
    const { kind = "relay", name = "relay-1" } = options;
    const server = await this.serve();
    const times = { now: Date.now(), days: 1 };
    const authorities = [this.authority.publicJwk];
    const issued = await issueIdentity(this.network.ca, { kind, name, authorities, ...times });
    const identity = await parseIdentity(issued.text, { source: name, now: times.now });
    const http = this.#stack.use(
      new ControllerHttp({
        controllers: () => [server.place],
        roots: () => this.network.roots,
        authorization: (audience) => createProof({ identity, audience, now: Date.now() }),
      }),
    );
    return Object.assign(new HttpLink(http), { server, http });
  }

  /** Serves the API over HTTPS. */
  async serve(port = 0) {
    const certificate = await this.network.issue("controller", "controller-1");
    const verifier = new ProofVerifier({
      roots: this.network.roots,
      audience: serverName("controller", "controller-1"),
      trustDomain: TRUST_DOMAIN,
      now: Date.now,
    });
    const api = createApi({
      admin: { noteDenied: () => Promise.resolve() } as unknown as AdminPort,
      authenticate: () => Promise.resolve(undefined),
      verifyProof: async (token) => {
        const proof = await verifier.verify(token);
        if (this.feed.isEnabled(proof.id.uri)) return proof;
        throw new IdentityError("ERR_IDENTITY_NOT_ADMITTED", "it is not known");
      },
      nodeRouters: [{
        path: "/sync/v1",
        maxBody: MAX_SYNC_BODY,
        router: syncRoutes({ linkOf: (relay, serial) => this.#links.of(relay, serial), now: Date.now }),
      }],
      health: () => ({ ready: true, uptime: 0 }),
      logger: SILENT_LOGGER,
      now: Date.now,
    });
    const tls = {
      cert: certificate.certificatePem + this.network.ca.certificatePem,
      key: certificate.privateKeyPem,
    };
    const ending = new AbortController();
    const server = Deno.serve(
      { hostname: "127.0.0.1", port, ...tls, signal: ending.signal, onListen() {} },
      (request, info) => api.fetch(request, info),
    );
    const place = { name: "controller-1", url: `https://127.0.0.1:${server.addr.port}` };
    const close = async () => {
      ending.abort();
      await server.finished;
    };
    this.#stack.defer(close);
    return { place, port: server.addr.port, close };
  }

  async addIdentity(name: string, change: Parameters<typeof agentSpec>[1] = {}): Promise<string> {
    const written = await this.store.transaction((tx) =>
      tx.create("identity", { name, spec: agentSpec(name, change) })
    );
    if (!written.ok) throw new Error(written.fault);
    return written.value.id;
  }

  async changeIdentity(id: string, change: Parameters<typeof agentSpec>[1]): Promise<void> {
    await this.store.transaction(async (tx) => {
      const { spec } = (await tx.get("identity", id))!;
      await tx.update("identity", id, { spec: { ...spec, ...change } });
    });
  }

  /** A service that identities with attribute `users` may dial and those with `hosts` may bind. */
  async addService(name: string, change: Parameters<typeof serviceSpec>[0] = {}): Promise<void> {
    await this.store.transaction(async (tx) => {
      await tx.create("service", { name, spec: serviceSpec(change) });
      for (const [type, role] of [["Dial", "#users"], ["Bind", "#hosts"]] as const) {
        const roles = { identityRoles: [role], serviceRoles: [`@${name}`] };
        const spec = { type, semantic: "AnyOf", ...roles, tags: {} } as const;
        await tx.create("service-policy", { name: `${type} ${name}`, spec });
      }
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
    await Deno.remove(this.folder, { recursive: true });
  }
}
