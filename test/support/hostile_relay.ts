/**
 * A relay for tests that sees each flow's stream as the preamble and its records, in clear as far as a relay can,
 * and may do with them what it likes.
 */

import { concat } from "../../src/base/bytes.ts";
import type { ByteChannel } from "../../src/base/channel.ts";
import { PREAMBLE_LENGTH } from "../../src/dataplane/open_header.ts";
import { RECORD_OVERHEAD } from "../../src/dataplane/record.ts";
import { channelPair, type ChannelPairOptions, type MemoryChannel } from "./channel_pair.ts";

/** What a relay can tell apart: the preamble (`type` 0) and the records of one direction, `index` from 0. */
export interface Unit {
  readonly type: number;
  readonly index: number;
  readonly bytes: Uint8Array;
}

/** Sent by a meddling relay, it ends the direction cleanly there and swallows the rest. */
export const CUT = new Uint8Array(0);

/** Sees each unit, and the end of the direction as `undefined`; returns what to send instead. */
export type Meddle = (unit: Unit | undefined) => readonly Uint8Array[];

/** What the relay does in each direction; default: carry faithfully. */
export interface HostileRelayOptions extends ChannelPairOptions {
  readonly toConnector?: Meddle;
  readonly toAgent?: Meddle;
}

/** A stream through the relay: give `agentEnd` and `connectorEnd` to the two ends. */
export interface HostileRelay {
  readonly agentEnd: MemoryChannel;
  readonly connectorEnd: MemoryChannel;
  /** The relay's own side of both streams, to write to out of turn. */
  readonly relayToAgent: MemoryChannel;
  readonly relayToConnector: MemoryChannel;
}

/** Makes a stream through a relay that meddles. */
export function hostileRelay(options: HostileRelayOptions = {}): HostileRelay {
  const [agentEnd, relayToAgent] = channelPair(options);
  const [relayToConnector, connectorEnd] = channelPair(options);
  const { toConnector = faithful, toAgent = faithful } = options;
  void carry(relayToAgent, relayToConnector, { meddle: toConnector, preambleLength: PREAMBLE_LENGTH });
  void carry(relayToConnector, relayToAgent, { meddle: toAgent, preambleLength: 0 });
  return { agentEnd, connectorEnd, relayToAgent, relayToConnector };
}

/** The meddling of an honest relay. */
export function faithful(unit: Unit | undefined): readonly Uint8Array[] {
  return unit === undefined ? [] : [unit.bytes];
}

async function carry(
  from: ByteChannel,
  to: ByteChannel,
  { meddle, preambleLength }: { readonly meddle: Meddle; readonly preambleLength: number },
): Promise<void> {
  try {
    let index = 0;
    for await (const { type, bytes } of units(from, preambleLength)) {
      await send(to, meddle({ type, bytes, index: type === 0 ? 0 : index++ }));
    }
    await send(to, [...meddle(undefined), CUT]);
  } catch (error) {
    from.abort(error);
    to.abort(error);
  }
}

async function send(to: ByteChannel, parts: readonly Uint8Array[]): Promise<void> {
  for (const part of parts) {
    if (part === CUT) return await to.closeWrite();
    await to.write(part);
  }
}

async function* units(
  from: ByteChannel,
  preambleLength: number,
): AsyncIterable<{ readonly type: number; readonly bytes: Uint8Array }> {
  let buffer = new Uint8Array(0);
  let isPreamble = preambleLength > 0;
  let chunk: Uint8Array | null;
  while ((chunk = await from.read()) !== null) {
    buffer = concat([buffer, chunk]);
    let length: number | undefined;
    while ((length = unitLength(buffer, isPreamble ? preambleLength : 0)) !== undefined) {
      yield { type: isPreamble ? 0 : buffer[0]!, bytes: buffer.slice(0, length) };
      isPreamble = false;
      buffer = buffer.slice(length);
    }
  }
}

/** Length of the first whole unit in the buffer. */
function unitLength(buffer: Uint8Array, preambleLength: number): number | undefined {
  if (preambleLength > 0) return buffer.length >= preambleLength ? preambleLength : undefined;
  if (buffer.length < RECORD_OVERHEAD) return undefined;
  const length = RECORD_OVERHEAD + (buffer[2]! << 16 | buffer[3]! << 8 | buffer[4]!);
  return buffer.length >= length ? length : undefined;
}
