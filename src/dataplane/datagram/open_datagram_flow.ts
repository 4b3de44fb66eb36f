/**
 * Sealed flows of datagrams: UDP, and echo messages. They are opened as flows of bytes are.
 */

import type { DatagramPort } from "../carrier.ts";
import {
  type AnsweredFlow,
  answerFlow,
  type AnswerOptions,
  requestFlow,
  type RequestOptions,
  type Upstream,
} from "../flow_opening.ts";
import { SealedDatagramFlow } from "./sealed_datagram_flow.ts";

/** What {@linkcode openDatagramFlow} needs beside what every flow does. */
export interface OpenDatagramFlowOptions extends RequestOptions {
  /** See {@linkcode SealedDatagramFlow}. */
  readonly datagrams: DatagramPort;
}

/** What {@linkcode acceptDatagramFlow} needs beside what every flow does. */
export interface AcceptDatagramFlowOptions<U> extends AnswerOptions<U> {
  /** See {@linkcode SealedDatagramFlow}. */
  readonly datagrams: DatagramPort;
}

/** Agent side: opens a flow; rejects with `FlowRefusedError` when the connector refuses it. */
export function openDatagramFlow(options: OpenDatagramFlowOptions): Promise<SealedDatagramFlow> {
  return requestFlow(options, (parts) => new SealedDatagramFlow(parts, options.datagrams));
}

/** Connector side: authenticates, authorizes and dials, as `answerFlow()` tells; join `flow` and `upstream`. */
export function acceptDatagramFlow<U extends Upstream>(
  options: AcceptDatagramFlowOptions<U>,
): Promise<AnsweredFlow<U, SealedDatagramFlow>> {
  return answerFlow(options, (parts) => new SealedDatagramFlow(parts, options.datagrams));
}
