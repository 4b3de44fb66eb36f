/**
 * Gives our interface its addresses and MTU and brings it up; does nothing where that is so already. Undone, it is
 * as it was found: an interface that somebody keeps ready for us outlives this program.
 */

import { runBatch } from "./batch.ts";
import { runChecked } from "./commands.ts";
import type { NetworkContext } from "./context.ts";
import { checkInterfaceName } from "./interface_name.ts";
import {
  checkWish,
  formatHostPrefix,
  type InterfaceAddress,
  type InterfaceState,
  planInterface,
} from "./interface_plan.ts";
import { readInterface } from "./ip_json.ts";
import { ipv6Usable } from "./ipv6.ts";
import { readHostPrefix } from "./journal_data.ts";
import { Serial } from "./serial.ts";

/** How the interface should be. */
export interface InterfaceConfig {
  readonly addresses: readonly InterfaceAddress[];
  readonly mtu: number;
  readonly up: true;
  /** Whether an address brings the route to its whole prefix; default true. A client has its routes advertised. */
  readonly prefixRoute?: boolean;
}

/** The set-up of one interface. */
export class InterfaceSetup implements AsyncDisposable {
  readonly #name: string;
  readonly #context: NetworkContext;
  readonly #serial = new Serial();

  constructor(name: string, context: NetworkContext) {
    this.#name = checkInterfaceName(name);
    this.#context = context;
  }

  /** Makes the interface as wanted; addresses of an earlier wish go, those that others gave it stay. */
  apply(config: InterfaceConfig): Promise<void> {
    checkWish(config);
    return this.#serial.run(() => this.#apply(config));
  }

  /** Puts the interface back as it was found; nothing when it is gone. */
  close(): Promise<void> {
    return this.#serial.run(() => this.#undo());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #apply({ addresses, mtu, prefixRoute = true }: InterfaceConfig): Promise<void> {
    const present = await this.#read();
    if (present === undefined) {
      await runChecked(this.#context.commands, {
        program: "ip",
        args: ["link", "show", "dev", this.#name],
        purpose: `set up interface ${this.#name}`,
      });
      throw new Error(`Cannot read the state of interface ${this.#name}`);
    }
    const { journal } = this.#context;
    const before = this.#before() ?? present;
    await journal.update({
      interface: {
        ...before,
        addresses: before.addresses.map(formatHostPrefix),
      },
    });
    const usable = this.#usable(addresses);
    const wish = {
      up: true,
      mtu,
      addressGeneration: "none",
      addresses: [...before.addresses, ...usable],
      prefixRoute,
    };
    // Once more: with the first of a network's IPv4 addresses the kernel takes away the others too.
    for (
      let state: InterfaceState | undefined = present, round = 0;
      state !== undefined && round < 2;
      round++
    ) {
      const steps = planInterface(this.#name, state, wish);
      if (steps.length === 0) return;
      await this.#run(steps, `set up interface ${this.#name}`);
      state = await this.#read();
    }
  }

  /** Leaves out the IPv6 addresses where the kernel would refuse them. */
  #usable(addresses: readonly InterfaceAddress[]): InterfaceAddress[] {
    if (ipv6Usable(this.#context.files, this.#name)) return [...addresses];
    const usable = addresses.filter(({ address }) => address.version === 4);
    if (usable.length < addresses.length) {
      this.#context.logger.warn("network_ipv6_off", { interface: this.#name });
    }
    return usable;
  }

  async #undo(): Promise<void> {
    const before = this.#before();
    if (before === undefined) return;
    const present = await this.#read();
    if (present !== undefined) {
      await this.#run(planInterface(this.#name, present, before), `put interface ${this.#name} back`);
    }
    await this.#context.journal.update({ interface: undefined });
  }

  #before(): InterfaceState | undefined {
    const kept = this.#context.journal.data.interface;
    if (kept === undefined) return undefined;
    const addresses = kept.addresses.flatMap((text) => {
      const { address, length } = readHostPrefix(text);
      return address === undefined ? [] : [{ address, prefixLength: length }];
    });
    return { ...kept, addresses };
  }

  /** The interface's present state; `undefined` when there is none of that name. */
  async #read(): Promise<InterfaceState | undefined> {
    const { commands } = this.#context;
    const link = await commands.run("ip", ["-json", "-details", "link", "show", "dev", this.#name]);
    if (link.code !== 0) return undefined;
    const purpose = `read the addresses of interface ${this.#name}`;
    const addresses = await runChecked(commands, {
      program: "ip",
      args: ["-json", "addr", "show", "dev", this.#name],
      purpose,
    });
    return readInterface(link.stdout, addresses);
  }

  #run(steps: ReturnType<typeof planInterface>, purpose: string): Promise<void> {
    const { commands, logger } = this.#context;
    return runBatch(steps, { commands, logger, purpose });
  }
}
