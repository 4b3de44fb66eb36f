/** A controller in the relay's own process: it makes the relay's identity, and no network lies between the two. */

import { formatHostPort, type HostPort } from "../../../base/address.ts";
import type { Logger } from "../../../base/log.ts";
import type { ControllerSettings } from "../../../config/schema/controller.ts";
import type { LocalLink } from "../../../control/sync/local_link.ts";
import type { Identity } from "../../../identity/identity_file.ts";
import { ControllerServer } from "../../controller/controller_server.ts";
import type { ControllerHome } from "./controller_home.ts";

/** What an embedded controller needs. */
export interface EmbeddedHomeOptions {
  readonly controller: ControllerSettings;
  /** The relay's name. */
  readonly name: string;
  /** Where nodes reach the relay. */
  readonly advertise: HostPort | undefined;
  readonly logger: Logger;
  readonly announce: (text: string) => void;
}

/** The controller of one process. */
export class EmbeddedHome implements ControllerHome {
  readonly link: LocalLink;
  readonly #server: ControllerServer;
  readonly #listeners: (() => void)[] = [];
  #identity: Identity;

  /** Starts the controller and makes the relay's identity. */
  static async open(options: EmbeddedHomeOptions): Promise<EmbeddedHome> {
    const { controller, name, advertise, logger, announce } = options;
    const server = await ControllerServer.start(controller, { logger, announce });
    const holder: { home?: EmbeddedHome } = {};
    try {
      const identity = await server.core.serverIdentity({
        kind: "relay",
        name,
        ...(advertise === undefined ? {} : { address: formatHostPort(advertise) }),
        onRenewed: (renewed) => holder.home?.renewed(renewed),
      });
      return holder.home = new EmbeddedHome(server, identity);
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  private constructor(server: ControllerServer, identity: Identity) {
    this.#server = server;
    this.#identity = identity;
    this.link = server.core.localLink(identity.id.uri);
  }

  get identity(): Identity {
    return this.#identity;
  }

  /** The relay has another certificate. */
  renewed(identity: Identity): void {
    this.#identity = identity;
    for (const listener of this.#listeners) listener();
  }

  onIdentity(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** The controller beside it makes a new identity when the trust changes. */
  acceptNetwork(): void {}

  reload(): Promise<void> {
    return this.#server.core.reload();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.link.close();
    await this.#server[Symbol.asyncDispose]();
  }
}
