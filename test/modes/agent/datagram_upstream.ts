/** A fake network for tests of local datagrams: every flow answers what it is sent, with the service's name in front. */

import { concat, utf8 } from "../../../src/base/bytes.ts";
import type { DatagramFlow } from "../../../src/dataplane/datagram/datagram_flow.ts";
import type { ConnectDatagrams, DatagramTarget } from "../../../src/modes/agent/local_flow.ts";

/** A flow that answers `SERVICE:` and the payload. */
export class EchoFlow implements DatagramFlow {
  readonly maxPayload = 1_200;
  readonly closed: Promise<Error | undefined>;
  readonly target: DatagramTarget;
  isOpen = true;
  #handler: (payload: Uint8Array<ArrayBuffer>) => void = () => {};
  #end: (error: Error | undefined) => void = () => {};

  constructor(target: DatagramTarget) {
    this.target = target;
    this.closed = new Promise((resolve) => this.#end = resolve);
  }

  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    this.#handler(concat([utf8(`${this.target.service}:`), bytes.subarray(start, end)]));
    return true;
  }

  writable(): Promise<void> {
    return Promise.resolve();
  }

  receive(handler: (payload: Uint8Array<ArrayBuffer>) => void): void {
    this.#handler = handler;
  }

  close(): void {
    this.isOpen = false;
    this.#end(undefined);
  }
}

/** Opens echoing flows and remembers them. */
export class EchoNetwork {
  readonly flows: EchoFlow[] = [];
  /** Why there is no flow, if so. */
  failure: Error | undefined;
  /** What the next flows wait for. */
  gate: Promise<void> = Promise.resolve();
  asked = 0;

  readonly connect: ConnectDatagrams = async (target, { signal }) => {
    this.asked++;
    await this.gate;
    signal.throwIfAborted();
    if (this.failure !== undefined) throw this.failure;
    const flow = new EchoFlow(target);
    this.flows.push(flow);
    return flow;
  };
}
