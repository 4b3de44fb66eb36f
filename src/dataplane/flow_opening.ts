/**
 * How both ends open a sealed flow, whatever it carries then. The agent seals OPEN with what it wants; the connector
 * authenticates it, compares it with what the relay says, asks its view, dials the upstream, and answers OPENED or
 * RESET with a reason.
 */

import type { ByteChannel } from "../base/channel.ts";
import { DataplaneError, FlowRefusedError, type ResetReason } from "./errors.ts";
import {
  decodeOpenHeader,
  decodePreamble,
  encodeOpenHeader,
  encodePreamble,
  type FlowTarget,
  type OpenHeader,
  type Preamble,
  PREAMBLE_LENGTH,
} from "./open_header.ts";
import { type OpenedRecord, RECORD_TYPE, type RecordType } from "./record.ts";
import { RecordStream } from "./record_stream.ts";
import { decodeReset, encodeReset } from "./reset.ts";
import type { Session } from "./session.ts";

/** What {@linkcode requestFlow} needs. */
export interface RequestOptions {
  /** The flow's stream through the relay; owned by the flow from here on. */
  readonly channel: ByteChannel;
  readonly session: Session;
  readonly header: FlowTarget;
  /** Gives up waiting for the answer. No effect on the open flow. */
  readonly signal?: AbortSignal;
}

/** What the relay's plain flow header says; the connector believes none of it unchecked. */
export interface RelayedFlow extends Omit<FlowTarget, "address"> {
  /** SPIFFE ID of the caller according to the relay. */
  readonly caller: string;
}

/** A verdict on a flow; the core's policy decisions have this shape. */
export type FlowDecision =
  | { readonly verdict: "allow" }
  | { readonly verdict: "deny"; readonly reason: string };

/** What {@linkcode answerFlow} needs; `U` is what reaches the upstream. */
export interface AnswerOptions<U> {
  /** The flow's stream from the relay, after the relay's plain header; owned by the flow from here on. */
  readonly channel: ByteChannel;
  /** The relay's plain flow header. */
  readonly relayed: RelayedFlow;
  /** Finds a session by its public id; it may wait for one whose handshake is about to end. */
  readonly findSession: (id: string) => Session | undefined | Promise<Session | undefined>;
  /** May this caller dial this service here? A denial goes out as RESET "denied". */
  readonly authorize: (header: OpenHeader) => FlowDecision;
  /** Reaches the upstream; throw `FlowRefusedError` to choose the reason the agent sees. */
  readonly dial: (header: OpenHeader, signal: AbortSignal) => Promise<U>;
  /** Ends the opening early. No effect on the open flow. */
  readonly signal?: AbortSignal;
}

/** What an upstream can do at least: be given up when the flow fails to open after all. */
export interface Upstream {
  abort(reason?: unknown): void;
}

/** The parts of which one end makes its open flow. */
export interface FlowParts {
  readonly channel: ByteChannel;
  /** The records on it, past OPEN and OPENED. */
  readonly records: RecordStream;
  readonly session: Session;
  readonly flowId: bigint;
}

/** A flow open at the connector, and what it is joined to. */
export interface AnsweredFlow<U, F> {
  readonly header: OpenHeader;
  readonly session: Session;
  readonly flow: F;
  readonly upstream: U;
}

/** How long a refusal may take to reach the agent before its stream is torn down, in milliseconds. */
const REFUSAL_LINGER = 10_000;

/** Agent side: opens a flow and makes it of its parts; rejects with `FlowRefusedError` when the connector refuses. */
export function requestFlow<F>(options: RequestOptions, make: (parts: FlowParts) => F): Promise<F> {
  const { channel, session, header, signal } = options;
  return guarded({ channel, session, signal }, async () => {
    const { service, port, protocol, address } = header;
    const flowId = session.nextFlowId();
    const records = new RecordStream({ channel, keys: session.flowKeys(flowId) });
    const ends = { caller: session.self, connector: session.peer.uri };
    await records.send(RECORD_TYPE.OPEN, {
      payload: encodeOpenHeader({ flowId, service, port, protocol, address, ...ends }),
      prefix: encodePreamble({ sessionId: session.id, flowId }),
    });
    const answer = await nextRecord(records);
    if (answer.type === RECORD_TYPE.RESET) throw new FlowRefusedError(decodeReset(answer));
    assertType(answer, RECORD_TYPE.OPENED);
    return make({ channel, records, session, flowId });
  });
}

/**
 * Connector side: authenticates, authorizes, dials, and makes the flow of its parts. Every failure answers or aborts
 * the stream, and rejects: a refusal as `FlowRefusedError`, a relay's tampering under its own code.
 */
export async function answerFlow<U extends Upstream, F>(
  options: AnswerOptions<U>,
  make: (parts: FlowParts) => F,
): Promise<AnsweredFlow<U, F>> {
  const { channel, signal } = options;
  const { preamble, session, rest } = await guarded({ channel, signal }, async () => {
    const { head, rest } = await readExactly(channel, PREAMBLE_LENGTH);
    const preamble = decodePreamble(head);
    const session = await options.findSession(preamble.sessionId);
    if (session !== undefined) return { preamble, session, rest };
    throw new DataplaneError("ERR_FLOW_UNKNOWN_SESSION", `No session ${preamble.sessionId} here`);
  });
  return await guarded({ channel, session, signal }, async (ended) => {
    const { flowId } = preamble;
    const records = new RecordStream({ channel, keys: session.flowKeys(flowId), buffered: rest });
    const header = await receiveOpen(records, { session, preamble });
    const upstream = await admit(header, { ...options, signal: ended }).catch(async (error) => {
      await refuse({ channel, records, reason: refusalReason(error) });
      throw new Answered(error);
    });
    try {
      await records.send(RECORD_TYPE.OPENED);
      ended.throwIfAborted();
    } catch (error) {
      upstream.abort(error);
      throw error;
    }
    return { header, session, flow: make({ channel, records, session, flowId }), upstream };
  });
}

interface Guard {
  readonly channel: ByteChannel;
  readonly session?: Session;
  readonly signal?: AbortSignal | undefined;
}

/** Runs one step of an opening: any failure, the signal or the session's end aborts the channel and rejects. */
async function guarded<T>(
  { channel, session, signal }: Guard,
  step: (ended: AbortSignal) => Promise<T>,
): Promise<T> {
  const ending = new AbortController();
  const end = (reason: unknown) => {
    ending.abort(reason);
    channel.abort(reason);
  };
  const onAbort = () => end(signal!.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  const forget = session?.onClose((reason) =>
    end(new DataplaneError("ERR_SESSION_CLOSED", `Session ended: ${reason}`))
  );
  try {
    if (signal?.aborted) onAbort();
    ending.signal.throwIfAborted();
    return await step(ending.signal);
  } catch (error) {
    if (error instanceof Answered) throw error.cause;
    channel.abort(error);
    throw ending.signal.aborted ? ending.signal.reason : error;
  } finally {
    signal?.removeEventListener("abort", onAbort);
    forget?.();
  }
}

/** Wraps an error that the other end has been told of: the stream is left to carry the answer. */
class Answered extends Error {
  constructor(cause: unknown) {
    super("Flow refused", { cause });
  }
}

/**
 * Receives OPEN and burns its flow id. Nothing may be sealed before: a replayed OPEN would make us use a nonce
 * twice.
 */
async function receiveOpen(
  records: RecordStream,
  { session, preamble }: { readonly session: Session; readonly preamble: Preamble },
): Promise<OpenHeader> {
  const record = await nextRecord(records);
  assertType(record, RECORD_TYPE.OPEN);
  const header = decodeOpenHeader(record.data);
  const { flowId, caller, connector } = header;
  if (flowId !== preamble.flowId || caller !== session.peer.uri || connector !== session.self) {
    throw new DataplaneError("ERR_FLOW_OPEN", "OPEN does not belong to its session and flow");
  }
  if (!session.acceptFlowId(flowId)) {
    throw new DataplaneError(
      "ERR_FLOW_REPLAYED",
      `Flow ${flowId} of session ${session.id} was opened before`,
    );
  }
  return header;
}

/** Decides on an authentic OPEN and dials. */
async function admit<U>(
  header: OpenHeader,
  { relayed, authorize, dial, signal }: AnswerOptions<U> & { readonly signal: AbortSignal },
): Promise<U> {
  for (const field of ["service", "port", "protocol", "caller"] as const) {
    if (header[field] === relayed[field]) continue;
    throw new DataplaneError(
      "ERR_FLOW_REDIRECTED",
      `The relay says ${field} ${relayed[field]}, the agent sealed ${header[field]}`,
    );
  }
  const decision = authorize(header);
  if (decision.verdict !== "allow") {
    throw new FlowRefusedError("denied", `Flow denied: ${decision.reason}`);
  }
  return await dial(header, signal);
}

function refusalReason(error: unknown): ResetReason {
  if (error instanceof FlowRefusedError) return error.reason;
  if (error instanceof DataplaneError && error.code === "ERR_FLOW_REDIRECTED") return "redirected";
  return "upstream-unreachable";
}

/** Answers RESET; the stream then lives until the agent has read it and ended its side, within a limit. */
async function refuse(
  { channel, records, reason }: {
    readonly channel: ByteChannel;
    readonly records: RecordStream;
    readonly reason: ResetReason;
  },
): Promise<void> {
  try {
    await records.send(RECORD_TYPE.RESET, { payload: encodeReset(reason) });
    await channel.closeWrite();
    void drain(channel);
  } catch (error) {
    channel.abort(error);
  }
}

async function drain(channel: ByteChannel): Promise<void> {
  const timer = setTimeout(() => channel.abort(), REFUSAL_LINGER);
  try {
    while (await channel.read() !== null);
  } catch {
    // The agent ended the stream its own way.
  } finally {
    clearTimeout(timer);
    channel.abort();
  }
}

async function nextRecord(records: RecordStream): Promise<OpenedRecord> {
  const record = await records.next();
  if (record !== null) return record;
  throw new DataplaneError("ERR_FLOW_TRUNCATED", "Stream ended while the flow was opening");
}

function assertType(record: OpenedRecord, type: RecordType): void {
  if (record.type === type) return;
  throw new DataplaneError("ERR_RECORD_ORDER", `Expected record type ${type} first, got ${record.type}`);
}

/** Reads exactly `length` bytes, and what came with them; `rest` is valid until the channel's next read. */
async function readExactly(
  channel: ByteChannel,
  length: number,
): Promise<{ readonly head: Uint8Array; readonly rest: Uint8Array }> {
  const head = new Uint8Array(length);
  let filled = 0;
  while (true) {
    const chunk = await channel.read();
    if (chunk === null) throw new DataplaneError("ERR_FLOW_TRUNCATED", "Stream ended before the flow began");
    const part = chunk.subarray(0, length - filled);
    head.set(part, filled);
    filled += part.length;
    if (filled === length) return { head, rest: chunk.subarray(part.length) };
  }
}
