/**
 * Enrolment as it runs: a CA directory, a real database, the service and its routes behind HTTPS, with a clock that
 * tests may move. Devices are the program's own; attackers say what they like.
 */

import { join } from "node:path";
import type { AdminPort } from "../../src/api/admin_port.ts";
import { createApi } from "../../src/api/app.ts";
import { enrolmentRoutes } from "../../src/api/nodes/enrolment_routes.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { CaKeeper } from "../../src/control/ca/ca_keeper.ts";
import { EnrolmentService } from "../../src/control/enrolment/enrolment_service.ts";
import type { Store } from "../../src/control/store.ts";
import type { AuditEntry } from "../../src/core/network/audit_entry.ts";
import { createCaDirectory } from "../../src/identity/ca_directory.ts";
import { makeCsr } from "../../src/identity/csr.ts";
import { generateKeyPair } from "../../src/identity/key_pair.ts";
import { signNetworkDocument } from "../../src/identity/network_document.ts";
import { ProofVerifier } from "../../src/identity/proof.ts";
import { serverName } from "../../src/identity/spiffe_id.ts";
import { openStore } from "../../src/store/open_store.ts";
import { agentSpec } from "../store/store_ground.ts";

/** The network's name; that of the store's own test identities. */
export const DOMAIN = "example.internal";

const DAY = 86_400_000;

/** One network with one controller. */
export class EnrolmentGround implements AsyncDisposable {
  readonly folder: string;
  readonly store: Store;
  readonly ca: CaKeeper;
  readonly service: EnrolmentService;
  /** Lives of what is issued, in milliseconds; tests may change them. */
  readonly life = { node: 30 * DAY, user: DAY / 3, token: DAY };
  /** Milliseconds by which the controller's clock is ahead of the real one. */
  ahead = 0;
  /** Where nodes find the controller. */
  controllers: { readonly name: string; readonly url: string }[] = [
    { name: "controller-1", url: "https://controller.example:8441" },
  ];
  readonly #stack = new AsyncDisposableStack();
  #iat = 0;

  static async open(): Promise<EnrolmentGround> {
    const folder = await Deno.makeTempDir({ prefix: "ginnel-enrolment-" });
    const times = { now: Date.now(), days: 365 };
    await createCaDirectory(join(folder, "ca"), { trustDomain: DOMAIN, ...times });
    const store = await openStore({ kind: "sqlite", path: join(folder, "ginnel.db") }, {
      logger: SILENT_LOGGER,
    });
    const ca = await CaKeeper.open(join(folder, "ca"), { logger: SILENT_LOGGER, now: Date.now });
    return new EnrolmentGround({ folder, store, ca });
  }

  private constructor(parts: { folder: string; store: Store; ca: CaKeeper }) {
    this.folder = parts.folder;
    this.store = parts.store;
    this.ca = parts.ca;
    this.#stack.use(parts.store);
    this.service = new EnrolmentService({
      store: this.store,
      ca: this.ca,
      controllers: () => this.controllers,
      network: () => this.network(),
      life: this.life,
      source: `spiffe://${DOMAIN}/controller/controller-1`,
      now: this.now,
    });
  }

  /** The controller's clock. */
  readonly now = (): number => Date.now() + this.ahead;

  /** The signed network document as it is now. */
  async network(): Promise<string> {
    return await signNetworkDocument(this.ca.authority, {
      rev: await this.store.revision(),
      iat: ++this.#iat,
      trustDomain: DOMAIN,
      roots: this.ca.roots(),
      authorities: [this.ca.authority.publicJwk],
      controllers: this.controllers,
      relays: [{ name: "relay-1", address: "relay.example:4433" }],
      trustDomains: [],
      revoked: [],
    });
  }

  /** Serves the routes over HTTPS as controller-1 and tells nodes so. */
  async serve(port = 0): Promise<{ readonly port: number; readonly close: () => Promise<void> }> {
    const own = await this.ca.makeIdentity({ kind: "controller", name: "controller-1", life: DAY });
    const { certificate, privateKey } = JSON.parse(own.text);
    const verifier = new ProofVerifier({
      roots: this.ca.roots(),
      audience: serverName("controller", "controller-1"),
      trustDomain: DOMAIN,
      now: Date.now,
    });
    const api = createApi({
      admin: { noteDenied: () => Promise.resolve() } as unknown as AdminPort,
      authenticate: () => Promise.resolve(undefined),
      verifyProof: (token) => verifier.verify(token),
      nodeRouters: [{
        path: "/enrolment/v1",
        router: enrolmentRoutes({
          enrol: (request, context) => this.service.enrol(request, context),
          renew: (proof, request, context) => this.service.renew(proof, request, context),
          roots: () => this.ca.roots(),
          network: () => this.network(),
          rights: (identity) => ({ dial: [`of ${identity}`], bind: [] }),
        }),
      }],
      health: () => ({ ready: true, uptime: 0 }),
      logger: SILENT_LOGGER,
      now: Date.now,
    });
    const server = Deno.serve({
      hostname: "127.0.0.1",
      port,
      cert: certificate + this.ca.issuingCertificate,
      key: privateKey,
      onListen() {},
    }, (request, info) => api.fetch(request, info));
    const url = `https://127.0.0.1:${server.addr.port}`;
    this.controllers = [{ name: "controller-1", url }];
    let closing: Promise<void> | undefined;
    const close = () => closing ??= server.shutdown();
    this.#stack.defer(close);
    return { port: server.addr.port, close };
  }

  /** Makes an identity and returns its resource id. */
  async addIdentity(name: string, change: Parameters<typeof agentSpec>[1] = {}): Promise<string> {
    const spec = agentSpec(name, change);
    const written = await this.store.transaction((tx) => tx.create("identity", { name, spec }));
    if (!written.ok) throw new Error(written.fault);
    return written.value.id;
  }

  async changeIdentity(id: string, change: Parameters<typeof agentSpec>[1]): Promise<void> {
    await this.store.transaction(async (tx) => {
      const { spec } = (await tx.get("identity", id))!;
      await tx.update("identity", id, { spec: { ...spec, ...change } });
    });
  }

  /** A token for an identity. */
  async token(identityId: string, ttlMs?: number): Promise<string> {
    const options = { by: "token:admin", ...(ttlMs === undefined ? {} : { ttlMs }) };
    const made = await this.service.createToken(identityId, options);
    if (!made.ok) throw new Error(made.fault);
    return made.value.token;
  }

  /** A signing request with a key of its own. */
  async csr(name: string, kind = "agent"): Promise<string> {
    return await makeCsr(await generateKeyPair(), `spiffe://${DOMAIN}/${kind}/${name}`);
  }

  /** The audit log's entries about enrolments, oldest first. */
  async audit(): Promise<readonly AuditEntry[]> {
    return (await this.store.queryAudit({ event: "enrol", limit: 500 })).toReversed();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
    await Deno.remove(this.folder, { recursive: true });
  }
}
