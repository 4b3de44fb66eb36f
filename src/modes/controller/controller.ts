/** Mode `controller`: identities, policies, addresses and audit of a network behind one API. */

import type { ControllerConfig } from "../../config/schema/controller.ts";
import { HealthServer } from "../../telemetry/health.ts";
import type { ModeContext, Running } from "../running.ts";
import { ControllerServer } from "./controller_server.ts";

/** Milliseconds between looks at the database. */
const CHECK_MS = 2_000;

/** Starts a controller. */
export async function runController(config: ControllerConfig, context: ModeContext): Promise<Running> {
  const { logger } = context;
  await using undo = new AsyncDisposableStack();
  const health = config.health === null
    ? undefined
    : undo.use(await HealthServer.start({ address: config.health, logger }));
  const server = await ControllerServer.start(config, { logger, announce: context.announce ?? (() => {}) });
  undo.move();
  return new Controller(server, { health, context });
}

class Controller implements Running {
  readonly closed: Promise<void>;
  readonly #server: ControllerServer;
  readonly #health: HealthServer | undefined;
  readonly #context: ModeContext;
  readonly #timer: ReturnType<typeof setInterval>;
  #stopping: Promise<void> | undefined;
  #resolveClosed: () => void = () => {};

  constructor(
    server: ControllerServer,
    parts: { readonly health: HealthServer | undefined; readonly context: ModeContext },
  ) {
    this.closed = new Promise((resolve) => this.#resolveClosed = resolve);
    this.#server = server;
    this.#health = parts.health;
    this.#context = parts.context;
    this.#timer = setInterval(() => void this.#check(), CHECK_MS);
    void this.#check();
  }

  reload(): Promise<void> {
    return this.#server.core.reload();
  }

  shutdown(reason: string): Promise<void> {
    return this.#stopping ??= this.#stop(reason);
  }

  async #check(): Promise<void> {
    const problem = await this.#server.core.problem();
    if (this.#stopping !== undefined) return;
    if (problem === undefined) this.#health?.setReady();
    else this.#health?.setUnready(problem);
  }

  async #stop(reason: string): Promise<void> {
    const { logger } = this.#context;
    logger.info("controller_stopping", { reason });
    clearInterval(this.#timer);
    this.#health?.setUnready("stopping");
    await this.#server[Symbol.asyncDispose]();
    await this.#health?.close();
    logger.info("controller_stopped", {});
    this.#resolveClosed();
  }
}
