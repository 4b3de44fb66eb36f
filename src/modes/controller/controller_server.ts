/**
 * A controller with its API behind HTTPS, in a process of its own or in a relay's. What listens is a door that bounds
 * connections; behind it a renewed certificate is taken up without a gap: the door leads to a second server, then the
 * first one ends.
 */

import { formatHostPort } from "../../base/address.ts";
import { DeadlineError, sleep, withDeadline } from "../../base/async.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { createApi } from "../../api/app.ts";
import { enrolmentRoutes } from "../../api/nodes/enrolment_routes.ts";
import { loginRoutes } from "../../api/nodes/login_routes.ts";
import { MAX_SYNC_BODY, syncRoutes } from "../../api/nodes/sync_routes.ts";
import type { ControllerSettings } from "../../config/schema/controller.ts";
import type { Identity } from "../../identity/identity_file.ts";
import { writeSecretFile } from "../../identity/secret_file.ts";
import { FrontDoor } from "../../io/tcp/front_door.ts";
import { ControllerCore } from "./controller_core.ts";

/** What a server needs. */
export interface ControllerServerOptions {
  readonly logger: Logger;
  /** Gets the first token's text, the one time that it exists. */
  readonly announce: (text: string) => void;
}

type Server = Deno.HttpServer<Deno.NetAddr>;

const LOOPBACK = "127.0.0.1";

/** Milliseconds before a server that failed is started again. */
const REVIVE_MS = 1_000;

/** Milliseconds that requests under way get when the certificate changes or the controller stops. */
const FINISH_MS = 5_000;

/** A controller that serves. */
export class ControllerServer implements AsyncDisposable {
  readonly core: ControllerCore;
  readonly #settings: ControllerSettings;
  readonly #logger: Logger;
  readonly #handler: (request: Request, info: Deno.ServeHandlerInfo<Deno.NetAddr>) => Promise<Response>;
  readonly #door: FrontDoor;
  #server: Server | undefined;
  #identity: Identity | undefined;
  #ending: Promise<void> = Promise.resolve();

  /** Opens the controller and its port; rejects with what is in the way. */
  static async start(
    settings: ControllerSettings,
    options: ControllerServerOptions,
  ): Promise<ControllerServer> {
    const { logger } = options;
    await using undo = new AsyncDisposableStack();
    const core = undo.use(await ControllerCore.open(settings, { logger }));
    const server = new ControllerServer(core, settings, logger);
    undo.defer(() => server.#end());
    const identity = await core.serverIdentity({
      kind: "controller",
      name: settings.name,
      onRenewed: (renewed) => server.#serve(renewed),
    });
    server.#serve(identity);
    await announceBootstrap(core, options);
    undo.move();
    logger.info("controller_started", {
      controller: core.spiffeId,
      api: formatHostPort({ ...settings.listen, port: server.port }),
      database: settings.database.kind,
    });
    return server;
  }

  private constructor(core: ControllerCore, settings: ControllerSettings, logger: Logger) {
    this.core = core;
    this.#settings = settings;
    this.#logger = logger;
    this.#door = new FrontDoor({ address: settings.listen, logger });
    const started = performance.now();
    const api = createApi({
      admin: core.admin,
      authenticate: (bearer) => core.auth.authenticate(bearer),
      verifyProof: (token) => core.nodes.verify(token),
      nodeRouters: [
        { path: "/enrolment/v1", router: enrolmentRoutes(core.enrolmentPort()), rate: "strict" },
        { path: "/login/v1", router: loginRoutes(core.login), rate: "strict" },
        {
          path: "/sync/v1",
          router: syncRoutes({ linkOf: (relay, serial) => core.links.of(relay, serial), now: Date.now }),
          maxBody: MAX_SYNC_BODY,
        },
      ],
      health: async () => ({
        ready: await core.problem() === undefined,
        uptime: performance.now() - started,
      }),
      logger,
      now: Date.now,
    });
    this.#handler = async (request, { remoteAddr }) => {
      const hostname = this.#door.visitor(remoteAddr.port);
      // Nobody on this machine gets around the door and its bounds.
      if (hostname === undefined) return new Response(null, { status: 421 });
      return await api.fetch(request, { remoteAddr: { transport: "tcp", hostname } });
    };
  }

  /** The port of the API. */
  get port(): number {
    return this.#door.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
    await this.core[Symbol.asyncDispose]();
  }

  /** Serves with this certificate from now on. */
  #serve(identity: Identity): void {
    const previous = this.#server;
    this.#identity = identity;
    try {
      this.#listen();
    } catch (error) {
      if (previous === undefined) throw error;
      this.#logger.error("certificate_not_taken_up", { detail: errorMessage(error) });
      return;
    }
    if (previous === undefined) this.core.listensAt(this.port);
    else this.#ending = Promise.all([this.#ending, finish(previous)]).then(() => {});
  }

  #listen(): void {
    const { certificatePem, privateKeyPem } = this.#identity!;
    const server: Server = Deno.serve({
      hostname: LOOPBACK,
      port: 0,
      cert: certificatePem + this.core.issuingCertificate,
      key: privateKeyPem,
      onListen: () => {},
      onError: (error) => {
        this.#logger.error("api_request_failed", { detail: errorMessage(error) });
        return new Response(null, { status: 500 });
      },
    }, this.#handler);
    this.#server = server;
    this.#door.leadTo(server.addr.port);
    server.finished.catch((error) => this.#revive(server, error));
  }

  /** The platform ends a server that cannot accept, for want of descriptors or memory; this one must not stay away. */
  async #revive(server: Server, cause: unknown): Promise<void> {
    this.#logger.error("api_interrupted", { detail: errorMessage(cause) });
    while (this.#server === server) {
      await sleep(REVIVE_MS);
      if (this.#server !== server) return;
      try {
        this.#listen();
      } catch (error) {
        this.#logger.error("api_interrupted", { detail: errorMessage(error) });
      }
    }
  }

  async #end(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    await Promise.all([this.#ending, server === undefined ? undefined : finish(server)]);
    await this.#door[Symbol.asyncDispose]();
  }
}

/** Lets a server finish what it is at; streams for relays never end by themselves, and their relays come back. */
async function finish(server: Server): Promise<void> {
  await withDeadline(FINISH_MS, () => server.shutdown()).catch((error) => {
    if (!(error instanceof DeadlineError)) throw error;
  });
}

async function announceBootstrap(core: ControllerCore, { logger, announce }: ControllerServerOptions) {
  const token = await core.ensureBootstrap();
  if (token === undefined) return;
  const { bootstrapToken } = core.paths;
  await writeSecretFile(bootstrapToken, `${token}\n`, { replace: true });
  logger.info("bootstrap_token_made", { file: bootstrapToken });
  announce(
    `\nThis network's first API token, shown this once and kept in ${bootstrapToken} (mode 0600):\n\n  ${token}\n\n` +
      `It is good for everything until the first administrator has enrolled; delete the file then.\n\n`,
  );
}
