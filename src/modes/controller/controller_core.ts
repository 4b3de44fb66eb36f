/**
 * A controller without its transport: database, CA, administration, enrolment, login, and the feed for relays. Several
 * relays may take a link to it, in the same process or through the API's routes.
 */

import { withDeadline } from "../../base/async.ts";
import { errorMessage, GinnelError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { EnrolmentPort } from "../../api/nodes/enrolment_routes.ts";
import type { ControllerSettings } from "../../config/schema/controller.ts";
import { numberServices } from "../../control/admin/service_index.ts";
import { AdminAuth } from "../../control/admin/admin_auth.ts";
import { NetworkAdmin } from "../../control/admin/network_admin.ts";
import { NodeAuth } from "../../control/admin/node_auth.ts";
import { CaKeeper } from "../../control/ca/ca_keeper.ts";
import { EnrolmentService } from "../../control/enrolment/enrolment_service.ts";
import { LoginService } from "../../control/login/login_service.ts";
import { verifyOidcBearer } from "../../control/login/oidc_bearer.ts";
import type { Store } from "../../control/store.ts";
import { Feed } from "../../control/sync/feed.ts";
import { LocalLink, type LocalLinkOptions } from "../../control/sync/local_link.ts";
import { RelayLinks } from "../../control/sync/relay_links.ts";
import { WorkloadAdmission } from "../../control/sync/workload_admission.ts";
import { NetworkPublisher } from "../../control/views/network_publisher.ts";
import { ViewService } from "../../control/views/view_service.ts";
import { foreignTrust } from "../../core/network/foreign_trust.ts";
import type { ServiceNetwork } from "../../core/service/catalogue.ts";
import { formatServiceNetwork, serviceNetworkOf } from "../../core/service/service_network.ts";
import { caPaths } from "../../identity/ca_directory.ts";
import type { Identity } from "../../identity/identity_file.ts";
import { ProofVerifier } from "../../identity/proof.ts";
import { makeSpiffeId, serverName } from "../../identity/spiffe_id.ts";
import type { ProviderDirectory } from "../../io/oidc/provider_directory.ts";
import { openStore } from "../../store/open_store.ts";
import { type AddressPlan, planAddresses } from "./addresses.ts";
import { controllerUrl } from "./controller_url.ts";
import { databaseOf } from "./database.ts";
import { type DataPaths, dataPaths, prepareDataFolder } from "./data_folder.ts";
import { Housekeeping } from "./housekeeping.ts";
import { OwnIdentity } from "./own_identity.ts";
import { openProviders } from "./oidc_providers.ts";
import { validateEgress } from "./validate_egress.ts";

/** A server that lives beside this controller. */
export interface ServerWish {
  readonly kind: "relay" | "controller";
  readonly name: string;
  readonly address?: string;
  readonly onRenewed: (identity: Identity) => void;
}

/** The setting that names the authority all controllers of a network share. */
const AUTHORITY_SETTING = "network.authority";
const TRUST_DOMAIN_SETTING = "network.trustDomain";

/** Milliseconds that the database may take to say that it is there. */
const PING_MS = 3_000;

interface Parts {
  readonly settings: ControllerSettings;
  readonly logger: Logger;
  readonly store: Store;
  readonly ca: CaKeeper;
  readonly paths: DataPaths;
  readonly addresses: AddressPlan;
  readonly services: ServiceNetwork;
  readonly feed: Feed;
  readonly views: ViewService;
  readonly providers: ProviderDirectory;
  /** The port the API listens at, once it does. */
  readonly listening: { port: number };
}

/** Milliseconds a start waits for a database server: both may start with the machine, in any order. */
const DATABASE_PATIENCE = 30_000;

/** Everything a controller does. */
export class ControllerCore implements AsyncDisposable {
  readonly admin: NetworkAdmin;
  readonly auth: AdminAuth;
  readonly nodes: NodeAuth;
  readonly enrolment: EnrolmentService;
  readonly login: LoginService;
  readonly links: RelayLinks;
  readonly #parts: Parts;
  readonly #verifier: ProofVerifier;
  readonly #workloads: WorkloadAdmission;
  readonly #housekeeping: Housekeeping;
  readonly #servers: OwnIdentity[] = [];
  readonly #stopWatching: () => void;

  /** Opens the database and the CA, which are made at the first start. */
  static async open(
    settings: ControllerSettings,
    { logger }: { readonly logger: Logger },
  ): Promise<ControllerCore> {
    await using undo = new AsyncDisposableStack();
    await Deno.mkdir(settings.data, { recursive: true, mode: 0o700 });
    const store = undo.use(
      await openStore(await databaseOf(settings), { logger, patience: DATABASE_PATIENCE }),
    );
    const { ca, paths } = await openCa(settings, { store, logger });
    const numbered = await numberServices(store);
    if (numbered > 0) logger.info("services_numbered", { services: numbered });
    const addresses = await planAddresses(settings);
    const services = serviceNetworkOf(settings.services, settings.trustDomain);
    const providers = await openProviders(settings, { logger });
    const listening = { port: settings.listen.port };
    const authority = () => ca.authority;
    const views = undo.use(
      new ViewService({
        authority,
        ttl: settings.viewTtl,
        services: formatServiceNetwork(services),
        logger,
        now: Date.now,
      }),
    );
    const network = new NetworkPublisher({
      authority,
      controllers: () => controllersOf(settings, listening.port),
      now: Date.now,
    });
    const feed = undo.use(
      await Feed.open({
        store,
        surroundings: () => ({
          trustDomain: settings.trustDomain,
          roots: ca.roots(),
          pools: addresses.pools,
        }),
        views,
        network,
        logger,
        now: Date.now,
      }),
    );
    const core = new ControllerCore({
      settings,
      logger,
      store,
      ca,
      paths,
      addresses,
      services,
      feed,
      views,
      providers,
      listening,
    });
    undo.move();
    return core;
  }

  private constructor(parts: Parts) {
    this.#parts = parts;
    const { settings, logger, store, ca, addresses, feed, providers } = parts;
    const { trustDomain, name, certificates } = settings;
    const now = Date.now;
    const source = this.spiffeId;
    this.#verifier = new ProofVerifier({
      roots: ca.roots(),
      foreign: foreignTrust(feed.state),
      audience: serverName("controller", name),
      trustDomain,
      now,
    });
    const verify = (token: string) => this.#verifier.verify(token);
    this.nodes = new NodeAuth({ store, verify });
    this.auth = new AdminAuth({
      store,
      now,
      logger,
      verifyProof: (token) => this.nodes.verify(token),
      verifyOidcBearer: (token) => verifyOidcBearer(token, { store, providers, now }),
    });
    const network = () => this.#network();
    this.enrolment = new EnrolmentService({
      store,
      ca,
      controllers: () => this.controllers,
      network,
      life: { node: certificates.node, user: certificates.user, token: certificates.enrolment },
      source,
      now,
    });
    this.login = new LoginService({
      store,
      providers,
      issueUser: (user) =>
        ca.issue(user.publicKey, { kind: "user", name: user.name, life: certificates.user }),
      network,
      authority: () => ca.authority,
      trustDomain,
      source,
      logger,
      now,
    });
    this.admin = new NetworkAdmin({
      store,
      trustDomain,
      source,
      now,
      services: parts.services,
      validateEgress,
      createEnrolmentToken: (identityId, options) => this.enrolment.createToken(identityId, options),
      roots: () => ca.roots(),
      allocation: addresses.allocation,
      endSession: ({ relay, id }) => store.announce({ type: "ended", relay, session: id }),
    });
    this.#workloads = new WorkloadAdmission({
      store,
      state: () => feed.state,
      refresh: () => feed.refresh(),
      source,
      now,
    });
    this.links = new RelayLinks(this.#linkOptions());
    this.#housekeeping = new Housekeeping({ store, logger });
    this.#stopWatching = ca.watch(() => void this.#caChanged());
    feed.onChange(() => {
      this.#verifier.updateTrust({ roots: ca.roots(), foreign: foreignTrust(feed.state) });
      this.#workloads.noteRules().catch((error) =>
        logger.warn("workloads_not_noted", { detail: errorMessage(error) })
      );
    });
  }

  /** This controller's SPIFFE ID. */
  get spiffeId(): string {
    const { trustDomain, name } = this.#parts.settings;
    return makeSpiffeId({ trustDomain, kind: "controller", name }).uri;
  }

  /** All controllers of the network, this one first. */
  get controllers(): readonly { readonly name: string; readonly url: string }[] {
    return controllersOf(this.#parts.settings, this.#parts.listening.port);
  }

  get paths(): DataPaths {
    return this.#parts.paths;
  }

  /** The certificate of the CA that issues, PEM. */
  get issuingCertificate(): string {
    return this.#parts.ca.issuingCertificate;
  }

  /** All trusted CA certificates, PEM. */
  get roots(): readonly string[] {
    return this.#parts.ca.roots();
  }

  /** The API listens at this port: nodes are told of it. */
  listensAt(port: number): void {
    this.#parts.listening.port = port;
    void this.#parts.feed.refresh();
  }

  /** The identity of a server beside this controller, made where there is none and kept fresh. */
  async serverIdentity({ kind, name, address, onRenewed }: ServerWish): Promise<Identity> {
    const { settings, ca, store, paths, logger } = this.#parts;
    const own = await OwnIdentity.open({
      ca,
      store,
      kind,
      name,
      path: kind === "relay" ? paths.relayIdentity : paths.identity,
      life: settings.certificates.node,
      ...(kind === "controller" ? { names: settings.names } : {}),
      ...(address === undefined ? {} : { address }),
      logger,
      onRenewed,
    });
    this.#servers.push(own);
    await this.#parts.feed.refresh();
    return own.identity;
  }

  /** What the routes of enrolment ask. */
  enrolmentPort(): EnrolmentPort {
    return {
      enrol: (request, context) => this.enrolment.enrol(request, context),
      renew: (proof, request, context) => this.enrolment.renew(proof, request, context),
      roots: () => this.roots,
      network: () => this.#network(),
      rights: (identity) => {
        const { policy } = this.#parts.feed;
        const rights = policy.rightsOf(identity);
        const names = policy.visibleServices(identity);
        return {
          dial: names.filter((name) => rights.mayDial(name).verdict === "allow"),
          bind: names.filter((name) => rights.mayBind(name).verdict === "allow"),
        };
      },
    };
  }

  /** The link of the relay in this process. */
  localLink(relay: string): LocalLink {
    return new LocalLink({ ...this.#linkOptions(), relay });
  }

  /** The network's first token, the one time that it exists. */
  ensureBootstrap(): Promise<string | undefined> {
    return this.admin.ensureBootstrap();
  }

  /** Why the controller cannot do its work; undefined while it can. */
  async problem(): Promise<string | undefined> {
    try {
      await withDeadline(PING_MS, () => this.#parts.store.ping());
      return undefined;
    } catch (error) {
      this.#parts.logger.warn("database_unreachable", { detail: errorMessage(error) });
      return "the database does not answer";
    }
  }

  /** Reads the CA again. */
  async reload(): Promise<void> {
    if (await this.#parts.ca.reload()) await this.#caChanged();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopWatching();
    for (const server of this.#servers) server[Symbol.dispose]();
    await this.#housekeeping[Symbol.asyncDispose]();
    await this.#parts.feed[Symbol.asyncDispose]();
    this.#parts.views[Symbol.dispose]();
    await this.#parts.store[Symbol.asyncDispose]();
  }

  async #network(): Promise<string> {
    const { feed } = this.#parts;
    if (feed.networkJws === undefined) await feed.refresh();
    if (feed.networkJws !== undefined) return feed.networkJws;
    throw new GinnelError("ERR_NETWORK_UNKNOWN", "The network document is not made yet");
  }

  async #caChanged(): Promise<void> {
    const { ca, feed } = this.#parts;
    this.#verifier.updateTrust({ roots: ca.roots(), foreign: foreignTrust(feed.state) });
    await Promise.all(this.#servers.map((server) => server.refresh()));
    await feed.refresh();
  }

  #linkOptions(): Omit<LocalLinkOptions, "relay" | "serial"> {
    const { feed, store, addresses } = this.#parts;
    return {
      feed,
      store,
      allocation: (identity) => addresses.allocation(identity, Date.now()),
      workloads: this.#workloads,
      now: Date.now,
    };
  }
}

function controllersOf(settings: ControllerSettings, port: number): { name: string; url: string }[] {
  return [{ name: settings.name, url: controllerUrl(settings, port) }, ...settings.peers];
}

/** Opens the CA and makes sure that it is the network's. */
async function openCa(
  settings: ControllerSettings,
  { store, logger }: { readonly store: Store; readonly logger: Logger },
): Promise<{ readonly ca: CaKeeper; readonly paths: DataPaths }> {
  const known = await store.getSetting(AUTHORITY_SETTING);
  await prepareDataFolder(settings, { isFirst: known === undefined, logger });
  const paths = dataPaths(settings.data);
  const ca = await CaKeeper.open(paths.ca, { logger, now: Date.now });
  if (ca.trustDomain !== settings.trustDomain) {
    throw new GinnelError(
      "ERR_CA_OTHER_NETWORK",
      `Cannot start: the CA ${
        caPaths(paths.ca).certificate
      } is of ${ca.trustDomain}, not of ${settings.trustDomain}`,
      { hint: "A network's trust domain never changes: correct trustDomain, or choose another data folder" },
    );
  }
  const domain = await store.initSetting(TRUST_DOMAIN_SETTING, settings.trustDomain);
  const kid = await store.initSetting(AUTHORITY_SETTING, ca.authority.kid);
  if (domain !== settings.trustDomain || kid !== ca.authority.kid) {
    throw new GinnelError(
      "ERR_CA_OTHER_NETWORK",
      `Cannot start: the database is of the network ${domain}, whose authority is not the one in ${paths.ca}`,
      { hint: "Copy the ca folder from another controller of this network, or name another database" },
    );
  }
  return { ca, paths };
}
