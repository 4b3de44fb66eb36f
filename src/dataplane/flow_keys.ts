/**
 * Keys of sealed flows: HKDF-SHA256 from the session secret, one key and one nonce base per flow and direction.
 */

import { hkdfSync } from "node:crypto";
import { concat, utf8 } from "../base/bytes.ts";

/** Key and nonce base of one direction of one flow. */
export interface DirectionKey {
  /** 32 bytes for ChaCha20-Poly1305. */
  readonly key: Uint8Array<ArrayBuffer>;
  /** 12 bytes; a record's nonce is this with its sequence number XORed into the last eight (RFC 8446 §5.3's way). */
  readonly nonceBase: Uint8Array<ArrayBuffer>;
}

/** Both directions of one flow, seen from one end. */
export interface FlowKeys {
  readonly send: DirectionKey;
  readonly receive: DirectionKey;
}

/** Random bytes that each end contributes to the session secret. */
export const SESSION_RANDOM_LENGTH = 32;

/** Length of a session's public id in bytes. */
export const SESSION_ID_LENGTH = 16;

const KEY_LENGTH = 32;
const NONCE_LENGTH = 12;
const EMPTY = new Uint8Array(0);
const LABEL_SECRET = "ginnel-e2e/1 secret";
const LABEL_SESSION_ID = utf8("ginnel-e2e/1 session id");
const LABEL_FLOW = utf8("ginnel-e2e/1 flow");
const LABEL_DATAGRAM = utf8("ginnel-e2e/1 datagram");

/** What goes into a session's secret, exchanged inside its TLS connection. */
export interface SessionSecretInput {
  readonly serverRandom: Uint8Array;
  readonly clientRandom: Uint8Array;
  /** SPIFFE IDs: a secret is bound to the two ends that made it. */
  readonly agent: string;
  readonly connector: string;
}

/** Derives the session secret. */
export function deriveSessionSecret(input: SessionSecretInput): Uint8Array<ArrayBuffer> {
  // A SPIFFE ID never contains a NUL, so the joined text is unambiguous.
  const info = utf8([LABEL_SECRET, input.agent, input.connector].join("\0"));
  return expand(concat([input.serverRandom, input.clientRandom]), { info, length: KEY_LENGTH });
}

/** Derives the public id by which a flow names its session; it reveals nothing about the secret. */
export function deriveSessionId(secret: Uint8Array): Uint8Array<ArrayBuffer> {
  return expand(secret, { info: LABEL_SESSION_ID, length: SESSION_ID_LENGTH });
}

/** Whose keys to derive. */
export interface FlowKeyOptions {
  readonly flowId: bigint;
  readonly role: "agent" | "connector";
}

/** Derives both directions' keys of flow `flowId`'s records, seen from `role`. */
export function deriveFlowKeys(secret: Uint8Array, options: FlowKeyOptions): FlowKeys {
  return deriveKeys(secret, LABEL_FLOW, options);
}

/** Derives both directions' keys of flow `flowId`'s datagrams, seen from `role`. */
export function deriveDatagramKeys(secret: Uint8Array, options: FlowKeyOptions): FlowKeys {
  return deriveKeys(secret, LABEL_DATAGRAM, options);
}

function deriveKeys(secret: Uint8Array, label: Uint8Array, { flowId, role }: FlowKeyOptions): FlowKeys {
  const info = new Uint8Array(label.length + 8);
  info.set(label);
  new DataView(info.buffer).setBigUint64(label.length, flowId);
  const block = expand(secret, { info, length: 2 * (KEY_LENGTH + NONCE_LENGTH) });
  const fromAgent = directionKey(block, 0);
  const fromConnector = directionKey(block, KEY_LENGTH + NONCE_LENGTH);
  return role === "agent"
    ? { send: fromAgent, receive: fromConnector }
    : { send: fromConnector, receive: fromAgent };
}

function directionKey(block: Uint8Array<ArrayBuffer>, offset: number): DirectionKey {
  return {
    key: block.subarray(offset, offset + KEY_LENGTH),
    nonceBase: block.subarray(offset + KEY_LENGTH, offset + KEY_LENGTH + NONCE_LENGTH),
  };
}

function expand(
  secret: Uint8Array,
  options: { readonly info: Uint8Array; readonly length: number },
): Uint8Array<ArrayBuffer> {
  return new Uint8Array(hkdfSync("sha256", secret, EMPTY, options.info, options.length) as ArrayBuffer);
}
