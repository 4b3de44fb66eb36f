/** A network with one relay, and programs that joined it by the SDK. */

import { createLogger, type Logger } from "../../src/base/log.ts";
import type { IdentityKind } from "../../src/identity/spiffe_id.ts";
import { Ginnel } from "../../src/sdk/ginnel.ts";
import { Network, type NetworkOptions, type RelayNode } from "../support/network.ts";

/** A test's network. */
export class SdkNetwork implements AsyncDisposable {
  readonly network: Network;
  readonly relay: RelayNode;
  readonly #joined: Ginnel[] = [];

  private constructor(network: Network, relay: RelayNode) {
    this.network = network;
    this.relay = relay;
  }

  static async start(options: NetworkOptions = {}): Promise<SdkNetwork> {
    const network = await Network.create(options);
    return new SdkNetwork(network, await network.relay());
  }

  /** Joins as one identity; left at the end of the test. */
  async join(kind: IdentityKind, name: string, { lines = [] as string[] } = {}): Promise<Ginnel> {
    const logger: Logger = createLogger({ level: "debug", write: (line) => void lines.push(line) });
    const net = await Ginnel.open(await this.network.issue(kind, name), {
      relays: [{ name: this.relay.name, address: `127.0.0.1:${this.relay.port}` }],
      logger,
    });
    this.#joined.push(net);
    return net;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#joined.map((net) => net.close()));
    await this.network[Symbol.asyncDispose]();
  }
}
