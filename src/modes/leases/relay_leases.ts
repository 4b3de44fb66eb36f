/** The leases of the relay that a config file describes, whether that relay runs or not. */

import { ConfigError } from "../../config/errors.ts";
import { loadConfig } from "../../config/parse_config.ts";
import { relaySource } from "../../config/schema/relay.ts";
import type { Lease } from "../../core/ipam.ts";
import { readStoredLeases, releaseStoredLease } from "../../store/stored_leases.ts";

/** The lease file of a relay. */
export class RelayLeases {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** Finds the file that a config names; throws `ConfigError` when it is no config of a relay with tunnels. */
  static async of(configFile: string): Promise<RelayLeases> {
    const config = await loadConfig(configFile);
    if (config.mode !== "relay") {
      const message = "expected relay: only a relay gives leases";
      throw new ConfigError("ERR_CONFIG", [{
        file: configFile,
        field: "mode",
        value: `"${config.mode}"`,
        message,
      }]);
    }
    if (config.tunnel === undefined) {
      const message = "is missing: this relay serves no IP tunnels, so it has no leases";
      throw new ConfigError("ERR_CONFIG", [{ file: configFile, field: "tunnel", message }]);
    }
    if (relaySource(config).kind !== "files") {
      const message =
        "this relay takes addresses from its controller: ask that with ginnel api GET ipam/allocations";
      throw new ConfigError("ERR_CONFIG", [{ file: configFile, field: "tunnel", message }]);
    }
    return new RelayLeases(config.tunnel.leases);
  }

  /** Where they are kept. */
  get path(): string {
    return this.#path;
  }

  /** All leases; none before the relay gave one. */
  async list(): Promise<Lease[]> {
    return await readStoredLeases(this.#path);
  }

  /** Ends the lease of a SPIFFE ID; a relay that runs ends its session too. `undefined`: it had none. */
  async release(identity: string): Promise<Lease | undefined> {
    return await releaseStoredLease(this.#path, identity);
  }
}
