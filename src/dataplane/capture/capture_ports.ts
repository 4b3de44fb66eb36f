/** What capture asks of the rest of the agent, and how what it is told becomes an answer to a local program. */

import type { ByteChannel } from "../../base/channel.ts";
import type { IpAddress } from "../../base/ip.ts";
import type { ServiceMatch, ServiceMismatch, ServiceQuestion } from "../../core/service/catalogue.ts";
import type { DatagramFlow } from "../datagram/datagram_flow.ts";

/** Where a captured flow goes. */
export interface CaptureTarget {
  readonly service: string;
  readonly port?: number;
  /** What was asked for, where it is not the service's own address. */
  readonly address?: string;
}

/** The network behind the services' addresses. */
export interface CapturePorts {
  /** Which service an address and port mean now. */
  match(address: IpAddress, question: ServiceQuestion): ServiceMatch | ServiceMismatch;
  /** Opens a flow of bytes. */
  connect(target: CaptureTarget, options: { readonly signal: AbortSignal }): Promise<ByteChannel>;
  /** Opens a flow of datagrams: UDP payloads, or echo messages from their identifier on. */
  connectDatagrams(
    target: CaptureTarget & { readonly protocol: "udp" | "icmp" },
    options: { readonly signal: AbortSignal },
  ): Promise<DatagramFlow>;
  /** What the error with which a flow was not opened, or has ended, means for the program that wanted it. */
  refusalOf(error: unknown): CaptureRefusal;
  /** Answers a DNS query, an empty answer none; who must wait answers later. The query is valid until the call returns. */
  answerDns(
    query: Uint8Array<ArrayBuffer>,
    options: { readonly viaTcp: boolean },
  ): Uint8Array | Promise<Uint8Array>;
}

/** `refused`: nobody is at that port; `prohibited`: policy says no; `unreachable`: all else. */
export type CaptureRefusal = "refused" | "prohibited" | "unreachable";

/** Milliseconds that opening a flow may take, where its service says nothing else: programs wait no longer. */
export const OPEN_TIMEOUT = 30_000;
