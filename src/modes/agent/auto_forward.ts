/**
 * Services on addresses in 127.0.0.0/8, one for each, for machines where nothing can be captured: TCP and UDP listeners
 * that come and go with the list of services. Needs no privilege.
 */

import type { HostPort } from "../../base/address.ts";
import { errorCode, errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { CataloguedService } from "../../core/service/catalogue.ts";
import { listenUdp } from "../../io/udp/listen.ts";
import { DatagramFlows } from "./datagram_flows.ts";
import { handleForward } from "./forward.ts";
import { type PlannedService, planService, type ServicePort, substitutePort } from "./forward_ports.ts";
import { startFrontEnd } from "./front_end.ts";
import type { ConnectDatagrams, ConnectFlow } from "./local_flow.ts";

/** The second octet of services' addresses, `127.101.x.y`, and the ones taken where another agent has it. */
const BLOCKS = [101, 102, 103, 104, 105, 106, 107, 108, 109, 110] as const;

/** Where an agent marks its block as taken, below `127.BLOCK.0.1`: a listener that serves nobody. */
const CLAIM_PORT = 10_101;

/** Listeners in all: one descriptor each, of the 1,024 or more that a process has at the least for a start. */
const MAX_LISTENERS = 2_048;

/** UDP clients of one port at once. */
const MAX_UDP_CLIENTS = 256;

/** What auto-forward needs. */
export interface AutoForwardOptions {
  readonly connect: ConnectFlow;
  readonly connectDatagrams: ConnectDatagrams;
  readonly logger: Logger;
}

/** One port of a service as local programs reach it. */
export interface LocalPort {
  readonly protocol: "tcp" | "udp";
  /** The service's own. */
  readonly port: number;
  /** Where it is here; undefined when nowhere. */
  readonly local: number | undefined;
}

/** Where a service is on this machine. */
export interface LocalPlace {
  readonly address: string;
  readonly ports: readonly LocalPort[];
  /** What a person should know about ports that are missing or elsewhere. */
  readonly notes: readonly string[];
}

/** Keeps the listeners as the list of services is. */
export class AutoForward implements AsyncDisposable {
  readonly #options: AutoForwardOptions;
  readonly #claim: Claim;
  readonly #open = new Map<string, OpenPort>();
  #planned: readonly PlannedService[] = [];
  #updating: Promise<void> = Promise.resolve();

  constructor(options: AutoForwardOptions) {
    this.#options = options;
    this.#claim = claimBlock();
  }

  /** Listens for these services and for no others; flows to services that are gone end. Resolves when it is so. */
  update(services: readonly CataloguedService[]): Promise<void> {
    this.#planned = services.map((service) => planService(service, this.#claim.block));
    return this.#updating = this.#updating.then(() => this.#follow(this.#planned));
  }

  /** Where each service is. */
  places(): ReadonlyMap<string, LocalPlace> {
    return new Map(this.#planned.map((planned) => [planned.service, this.#place(planned)]));
  }

  /** Closes every listener and ends every flow. Idempotent. */
  async close(): Promise<void> {
    await this.update([]);
    this.#claim.release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #follow(planned: readonly PlannedService[]): Promise<void> {
    const wanted = new Map(planned.flatMap(({ ports }) => ports.map((port) => [keyOf(port), port])));
    const gone = [...this.#open].filter(([key]) => !wanted.has(key));
    for (const [key] of gone) this.#open.delete(key);
    // Whoever comes next may want the same address and port.
    await Promise.all(gone.map(([, { close }]) => close(new Error("The service is gone"))));
    const missing = [...wanted].filter(([key]) => !this.#open.has(key));
    // Every port gets its own number first, before any other's substitute takes it.
    const denied = missing.filter(([key, port]) => !this.#listen(key, port, port.port));
    for (const [key, port] of denied) {
      const substitute = substitutePort(port.port);
      if (substitute !== undefined) this.#listen(key, port, substitute);
    }
  }

  #place({ hostname, ports, note }: PlannedService): LocalPlace {
    const local = ports.map((port): LocalPort => ({
      protocol: port.protocol,
      port: port.port,
      local: this.#open.get(keyOf(port))?.port,
    }));
    const notes = local.filter(({ port, local }) => port !== local).map(({ protocol, port, local }) =>
      local === undefined
        ? `${protocol} ${port} cannot be listened on here`
        : `${protocol} ${port} is at ${local} here`
    );
    return { address: hostname, ports: local, notes: note === undefined ? notes : [note, ...notes] };
  }

  /** Opens a listener; false where the port cannot be had. */
  #listen(key: string, wanted: ServicePort, port: number): boolean {
    const { logger } = this.#options;
    const { service, protocol, hostname } = wanted;
    if (this.#open.size >= MAX_LISTENERS) {
      logger.warn("too_many_local_ports", { limit: MAX_LISTENERS, service, protocol, port });
      return false;
    }
    try {
      const listen = { hostname, port };
      const ended = protocol === "tcp" ? this.#listenTcp(listen, wanted) : this.#listenUdp(listen, wanted);
      this.#open.set(key, { port, close: ended });
      return true;
    } catch (error) {
      const detail = errorMessage(error);
      logger.debug("local_port_denied", { service, protocol, port, code: errorCode(error), detail });
      return false;
    }
  }

  #listenTcp(listen: HostPort, { service, port }: ServicePort): OpenPort["close"] {
    const { connect, logger } = this.#options;
    const frontEnd = startFrontEnd({
      listen,
      name: `service ${service}`,
      logger,
      handle: (client, signal) => handleForward(client, { service, port }, { connect, logger, signal }),
    });
    return (reason) => frontEnd.close(reason);
  }

  #listenUdp(listen: HostPort, { service, port }: ServicePort): OpenPort["close"] {
    const { connectDatagrams, logger } = this.#options;
    const flows = new DatagramFlows({ connect: connectDatagrams, logger, maxFlows: MAX_UDP_CLIENTS });
    const target = { service, port, protocol: "udp" as const };
    const socket = listenUdp(listen, (bytes, from) => {
      flows.send(`${from.hostname} ${from.port}`, bytes, () => ({
        target,
        receive: (payload) => void socket.send(payload, from),
      }));
    });
    return (reason) => {
      flows.close(reason);
      return socket.close();
    };
  }
}

/** An open listener. */
interface OpenPort {
  readonly port: number;
  readonly close: (reason: unknown) => Promise<void>;
}

interface Claim {
  readonly block: number;
  release(): void;
}

/** Takes the first block that no other agent on this machine has; where all seem taken, the first one. */
function claimBlock(): Claim {
  for (const block of BLOCKS) {
    try {
      const listener = Deno.listen({ hostname: `127.${block}.0.1`, port: CLAIM_PORT });
      let isHeld = true;
      const release = () => {
        if (isHeld) listener.close();
        isHeld = false;
      };
      return { block, release };
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) break;
    }
  }
  return { block: BLOCKS[0], release: () => {} };
}

function keyOf({ service, protocol, port, hostname }: ServicePort): string {
  return `${service} ${protocol} ${port} ${hostname}`;
}
