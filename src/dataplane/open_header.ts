/**
 * The start of a sealed flow: a preamble in clear, by which the connector finds the keys, then the content of the
 * OPEN record.
 *
 * ```text
 *  0         1                                 17                25
 * +---------+---------------------------------+-----------------+
 * | version | session id                      | flow id         |
 * | u8, 1   | 16 bytes                        | u64, big-endian |
 * +---------+---------------------------------+-----------------+
 * ```
 *
 * The preamble needs no protection of its own: any other session or flow id yields other keys.
 */

import { z } from "zod";
import { fromHex, toHex, utf8, utf8Decode } from "../base/bytes.ts";
import type { FlowProtocol } from "../core/service/catalogue.ts";
import { DataplaneError } from "./errors.ts";
import { SESSION_ID_LENGTH } from "./flow_keys.ts";

/** Length of the preamble in bytes. */
export const PREAMBLE_LENGTH = 25;

const VERSION = 1;
const FLOW_ID_OFFSET = 1 + SESSION_ID_LENGTH;

/** Which session's keys a flow uses. */
export interface Preamble {
  /** Hexadecimal. */
  readonly sessionId: string;
  readonly flowId: bigint;
}

/** What the agent asks for. */
export interface FlowTarget {
  readonly service: string;
  /** Port the client asked for, where the service cares. */
  readonly port?: number | undefined;
  readonly protocol: FlowProtocol;
  /** The name or address asked for, where it is not the service's own; the relay never learns of it. */
  readonly address?: string | undefined;
}

/** The authenticated content of OPEN. */
export interface OpenHeader extends FlowTarget {
  readonly flowId: bigint;
  /** SPIFFE IDs of both ends. */
  readonly caller: string;
  readonly connector: string;
}

const OPEN_SCHEMA = z.strictObject({
  flow: z.string().regex(/^(?:0|[1-9][0-9]{0,19})$/),
  service: z.string().min(1).max(255),
  port: z.int().min(1).max(65_535).optional(),
  protocol: z.enum(["tcp", "udp", "icmp"]),
  address: z.string().min(1).max(255).optional(),
  caller: z.string().min(1).max(2_048),
  connector: z.string().min(1).max(2_048),
});

/** Encodes the preamble. */
export function encodePreamble({ sessionId, flowId }: Preamble): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(PREAMBLE_LENGTH);
  bytes[0] = VERSION;
  bytes.set(fromHex(sessionId), 1);
  new DataView(bytes.buffer).setBigUint64(FLOW_ID_OFFSET, flowId);
  return bytes;
}

/** Decodes exactly {@linkcode PREAMBLE_LENGTH} bytes. */
export function decodePreamble(bytes: Uint8Array): Preamble {
  if (bytes.length !== PREAMBLE_LENGTH || bytes[0] !== VERSION) {
    throw new DataplaneError("ERR_FLOW_OPEN", `Unknown version ${bytes[0]} of the sealed flow`);
  }
  return {
    sessionId: toHex(bytes.subarray(1, FLOW_ID_OFFSET)),
    flowId: new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(FLOW_ID_OFFSET),
  };
}

/** Encodes the plaintext of OPEN. */
export function encodeOpenHeader({ flowId, ...header }: OpenHeader): Uint8Array<ArrayBuffer> {
  return utf8(JSON.stringify({ flow: flowId.toString(), ...header }));
}

/** Decodes the plaintext of OPEN. */
export function decodeOpenHeader(bytes: Uint8Array): OpenHeader {
  const { flow, ...header } = parse(bytes);
  return { flowId: BigInt(flow), ...header };
}

function parse(bytes: Uint8Array): z.infer<typeof OPEN_SCHEMA> {
  try {
    return OPEN_SCHEMA.parse(JSON.parse(utf8Decode(bytes)));
  } catch (cause) {
    throw new DataplaneError("ERR_FLOW_OPEN", "OPEN is malformed", { cause });
  }
}
