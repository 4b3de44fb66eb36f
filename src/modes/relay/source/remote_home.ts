/** Controllers behind HTTPS: the relay shows them proofs by its identity file, and renews its certificate there. */

import { GinnelError } from "../../../base/errors.ts";
import type { Logger } from "../../../base/log.ts";
import type { Identity } from "../../../identity/identity_file.ts";
import type { ControllerHttp } from "../../../io/controller/https_client.ts";
import { CertificateRenewer } from "../../enrol/certificate_renewer.ts";
import { controllerClient } from "../../enrol/controller_client.ts";
import { IdentitySource } from "../../shared/identity_source.ts";
import { HttpLink } from "../controller_link/http_link.ts";
import type { ControllerHome } from "./controller_home.ts";

/** What remote controllers need. */
export interface RemoteHomeOptions {
  /** The relay's identity file. */
  readonly identity: string;
  /** Undefined: those that the identity file names. */
  readonly controllers: readonly { readonly name: string; readonly url: string }[] | undefined;
  readonly logger: Logger;
}

/** Controllers elsewhere. */
export class RemoteHome implements ControllerHome {
  readonly link: HttpLink;
  readonly #source: IdentitySource;
  readonly #http: ControllerHttp;
  readonly #renewer: CertificateRenewer;

  /** Reads the identity; rejects when it cannot be used or names no controller. */
  static async open(options: RemoteHomeOptions): Promise<RemoteHome> {
    const { identity, logger } = options;
    const source = await IdentitySource.open(identity, { logger });
    const { controllers = source.current.network?.controllers ?? [] } = options;
    if (controllers.length === 0) {
      await source.close();
      throw new GinnelError("ERR_NO_CONTROLLER", `Cannot start: ${identity} names no controller to follow`, {
        hint:
          "Enrol the relay with a token of its controller, or give policy and authority for a relay without one",
      });
    }
    return new RemoteHome(source, options);
  }

  private constructor(source: IdentitySource, { identity, controllers, logger }: RemoteHomeOptions) {
    this.#source = source;
    this.#http = controllerClient(
      () => source.current,
      controllers === undefined ? {} : { controllers: () => controllers },
    );
    this.link = new HttpLink(this.#http);
    this.#renewer = new CertificateRenewer({
      path: identity,
      identity: () => source.current,
      logger,
      onRenewed: () => source.reload(),
    });
    source.onChange(({ certificate, trust, authorities }) => {
      if (trust || authorities || certificate) this.#renewer.check();
    });
  }

  get identity(): Identity {
    return this.#source.current;
  }

  onIdentity(listener: () => void): void {
    this.#source.onChange(({ certificate }) => {
      if (certificate) listener();
    });
  }

  acceptNetwork(jws: string): void {
    void this.#source.acceptNetwork(jws, "controller");
  }

  reload(): Promise<void> {
    return this.#source.reload();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#renewer[Symbol.asyncDispose]();
    this.#http[Symbol.dispose]();
    await this.#source.close();
  }
}
