/** Services on a machine of its own: real interface, real kernel, and a network that the test answers for. */

import type { ByteChannel } from "../../../../src/base/channel.ts";
import { type IpAddress, parseIp, parsePrefix } from "../../../../src/base/ip.ts";
import { type Logger, SILENT_LOGGER } from "../../../../src/base/log.ts";
import { type DialableService, ServiceCatalogue } from "../../../../src/core/service/catalogue.ts";
import type { CaptureTarget } from "../../../../src/dataplane/capture/capture_ports.ts";
import type { DatagramFlow } from "../../../../src/dataplane/datagram/datagram_flow.ts";
import { FlowRefusedError } from "../../../../src/dataplane/errors.ts";
import { dialUpstream } from "../../../../src/io/tcp/dial.ts";
import {
  ServiceCapture,
  type ServiceCaptureOptions,
} from "../../../../src/modes/agent/capture/service_capture.ts";
import { type Ground, NEEDS, onGround } from "../../../io/network/ground.ts";
import { needsTool, needsTun } from "../../../support/require_tool.ts";

/** What tests here need. */
export const CAPTURE_NEEDS = [...NEEDS, needsTun(), needsTool("gcc"), needsTool("ping")];

/** The interface of these tests. */
export const INTERFACE = "ginnel1";

const POOLS = { ipv4: parsePrefix("10.101.0.0/16")!, ipv6: parsePrefix("fd12:3456:789a:1::/64")! };

/** The address of a service by its number. */
export function virtual(index: number): Readonly<Record<4 | 6, string>> {
  return {
    4: `10.101.${index >> 8}.${index & 0xff}`,
    6: `fd12:3456:789a:1::${index.toString(16)}`,
  };
}

/** A catalogue of these services, in the pools given or the usual ones. */
export function catalogueOf(
  services: readonly (Partial<DialableService> & { readonly service: string })[],
  { ipv4 = POOLS.ipv4, zone = "ginnel.internal" } = {},
): ServiceCatalogue {
  const full = services.map((each, number): DialableService => ({
    endToEnd: "required",
    connectors: ["spiffe://x/connector/c"],
    idleTimeout: 120_000,
    index: 100 + number,
    ...each,
  }));
  return new ServiceCatalogue(full, { zone, ipv4, ipv6: POOLS.ipv6 });
}

/** A flow of datagrams that the test is the far end of. */
export class TestDatagrams implements DatagramFlow {
  readonly maxPayload = 1_200;
  readonly sent: Uint8Array<ArrayBuffer>[] = [];
  readonly #closed = Promise.withResolvers<Error | undefined>();
  readonly closed = this.#closed.promise;
  isClosed = false;
  /** Datagrams it takes before it is full. */
  room = Infinity;
  #onRoom: (() => void)[] = [];
  #handler: ((payload: Uint8Array<ArrayBuffer>) => void) | undefined;
  readonly #echoes: boolean;

  constructor({ echoes = true } = {}) {
    this.#echoes = echoes;
  }

  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    if (this.room <= 0) return false;
    this.room--;
    const payload = bytes.slice(start, end);
    this.sent.push(payload);
    if (this.#echoes) queueMicrotask(() => this.answer(payload));
    return true;
  }

  writable(): Promise<void> {
    return this.room > 0 ? Promise.resolve() : new Promise((resolve) => this.#onRoom.push(resolve));
  }

  /** Takes more. */
  grant(count: number): void {
    this.room = count;
    for (const wake of this.#onRoom.splice(0)) wake();
  }

  receive(handler: (payload: Uint8Array<ArrayBuffer>) => void): void {
    this.#handler = handler;
  }

  /** Says something from the far end. */
  answer(payload: Uint8Array<ArrayBuffer>): void {
    if (!this.isClosed) this.#handler?.(payload);
  }

  /** The far end ends it. */
  fail(error: Error): void {
    this.isClosed = true;
    this.#closed.resolve(error);
  }

  close(): void {
    this.isClosed = true;
    this.#closed.resolve(undefined);
  }
}

/** What was asked of the network, and how it answers. */
export interface TestNetwork {
  readonly asked: (CaptureTarget & { readonly protocol?: string })[];
  readonly flows: TestDatagrams[];
  /** Answers a wish for a flow; default: a connection to the echo server. */
  connect: (target: CaptureTarget, signal: AbortSignal) => Promise<ByteChannel>;
  connectDatagrams: (target: CaptureTarget) => Promise<TestDatagrams>;
  answerDns: (query: Uint8Array, viaTcp: boolean) => Uint8Array | Promise<Uint8Array>;
}

/** A refusal of the far end. */
export function refusal(reason: "upstream-refused" | "upstream-unreachable" | "denied"): FlowRefusedError {
  return new FlowRefusedError(reason);
}

/** A captured machine. */
export interface CaptureGround {
  readonly ground: Ground;
  readonly capture: ServiceCapture;
  readonly network: TestNetwork;
}

/** Runs `body` on a machine that captures `catalogue`. */
export function onCaptureGround(
  body: (ground: CaptureGround) => Promise<void>,
  options: {
    readonly catalogue?: ServiceCatalogue;
    readonly logger?: Logger;
    readonly relays?: ServiceCaptureOptions["relays"];
    readonly allowRemoteClients?: boolean;
  } = {},
): Promise<void> {
  return onGround(async (ground) => {
    using echo = echoServer();
    const network = testNetwork(echo.port);
    const capture = await startCapture(ground, { network, ...options });
    try {
      await body({ ground, capture, network });
    } finally {
      await capture.close();
    }
  });
}

/** Starts capture on a ground. */
export function startCapture(
  ground: Ground,
  { network, catalogue = catalogueOf([{ service: "web" }]), logger = SILENT_LOGGER, ...rest }: {
    readonly network: TestNetwork;
    readonly catalogue?: ServiceCatalogue;
    readonly logger?: Logger;
    readonly relays?: ServiceCaptureOptions["relays"];
    readonly allowRemoteClients?: boolean;
  },
): Promise<ServiceCapture> {
  let current = catalogue;
  return ServiceCapture.start({
    config: { interface: INTERFACE },
    allowRemoteClients: rest.allowRemoteClients ?? false,
    catalogue,
    ports: {
      match: (address: IpAddress, question) => current.matchAddress(address, question),
      connect: (target, { signal }) => {
        network.asked.push(target);
        return network.connect(target, signal);
      },
      connectDatagrams: async (target) => {
        network.asked.push(target);
        const flow = await network.connectDatagrams(target);
        network.flows.push(flow);
        return flow;
      },
      answerDns: (query, { viaTcp }) => network.answerDns(query, viaTcp),
    },
    relays: rest.relays ?? (() => []),
    logger,
    host: { directory: ground.directory },
  }).then((capture) => {
    const update = capture.update.bind(capture);
    capture.update = (next) => {
      current = next ?? current;
      return update(next);
    };
    return capture;
  });
}

/** A network whose TCP flows lead to a port of loopback. */
export function testNetwork(port: number): TestNetwork {
  return {
    asked: [],
    flows: [],
    connect: () => dialUpstream({ kind: "tcp", hostname: "127.0.0.1", port }),
    connectDatagrams: () => Promise.resolve(new TestDatagrams()),
    answerDns: (query) => query.toReversed(),
  };
}

/** Sends back what it gets, and ends when its client has. */
export function echoServer(): { readonly port: number } & Disposable {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const serving = (async () => {
    for await (const conn of listener) conn.readable.pipeTo(conn.writable).catch(() => {});
  })();
  serving.catch(() => {});
  return { port: listener.addr.port, [Symbol.dispose]: () => listener.close() };
}

/** The address that a text means. */
export function address(text: string): IpAddress {
  return parseIp(text)!;
}
