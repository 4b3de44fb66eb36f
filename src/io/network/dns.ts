/**
 * Names are asked of the tunnel's servers while it is up: by systemd-resolved where this machine uses it, otherwise by
 * a resolv.conf of ours in place of the one that was there.
 */

import type { IpAddress } from "../../base/ip.ts";
import type { NetworkContext } from "./context.ts";
import { MachineResolver, type MachineResolverOptions } from "./machine_resolver.ts";
import { asksResolved, renderResolvConf } from "./resolv_conf.ts";
import { Serial } from "./serial.ts";

/** Whose resolver, and where its file lies. */
export type TunnelDnsOptions = Pick<MachineResolverOptions, "interface" | "path" | "layers">;

/** The resolver set-up of one tunnel interface. */
export class TunnelDns implements AsyncDisposable {
  readonly #context: NetworkContext;
  readonly #machine: MachineResolver;
  readonly #serial = new Serial();

  constructor(options: TunnelDnsOptions, context: NetworkContext) {
    this.#context = context;
    this.#machine = new MachineResolver({ ...options, setting: "tunnel.dns" }, context);
  }

  /** Has names asked of `servers` only; none: as before us. */
  apply(servers: readonly IpAddress[]): Promise<void> {
    return this.#serial.run(async () => {
      const { file, resolved } = this.#machine;
      if (servers.length === 0) return await this.#machine.release();
      const kind = this.#context.journal.data.resolver?.kind;
      const wantsResolved = kind === undefined ? asksResolved(await file.read() ?? "") : kind === "resolved";
      if (wantsResolved && await resolved.apply({ servers, domains: ["."] })) return;
      const text = renderResolvConf(servers, this.#context.journal.lockFile);
      await this.#machine.claim({
        kind: "tunnel",
        servers,
        apply: () => file.install(text),
        remove: () => this.#machine.restore(),
      });
    });
  }

  /** Has names asked as before us; also puts back what a killed process left. */
  close(): Promise<void> {
    return this.#serial.run(() => this.#machine.release());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
