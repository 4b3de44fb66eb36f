/**
 * A dialect of connect-ip, spoken only where a configuration asks for it: packets in capsules of their own on the stream,
 * and ADDRESS_ASSIGN with a count in front. Type 0x40 is one that RFC 9297 §5.4 reserves, so anybody may send junk in it.
 *
 *   IP_PACKET      = | a whole IP packet |
 *   ADDRESS_ASSIGN = | Count (varint) | as many addresses as RFC 9484 §4.7.1 lays them out |
 */
import { concat } from "../../base/bytes.ts";
import { encodeVarint, readVarint, varintLength } from "../varint.ts";
import { encodeCapsule } from "./capsule.ts";
import {
  ADDRESS_ASSIGN,
  type AssignedAddress,
  decodeAddresses,
  encodeAddresses,
  malformed,
} from "./connect_ip.ts";

/** Carries one IP packet. */
export const IP_PACKET = 0x40;

/** Writes an ADDRESS_ASSIGN capsule of the dialect; bits behind the prefix may be set. */
export function encodeZgateAddressAssign(list: readonly AssignedAddress[]): Uint8Array<ArrayBuffer> {
  return encodeCapsule(ADDRESS_ASSIGN, concat([encodeVarint(list.length), encodeAddresses(list)]));
}

/** Reads the value of an ADDRESS_ASSIGN capsule of the dialect; bits behind the prefix may be set. */
export function decodeZgateAddressAssign(value: Uint8Array): AssignedAddress[] {
  const first = value[0];
  if (first === undefined || value.length < varintLength(first)) throw malformed("ends inside its count");
  const count = readVarint(value, 0);
  const list = decodeAddresses(value, varintLength(first));
  if (list.length !== count) throw malformed(`announces ${count} addresses and has ${list.length}`);
  return list;
}
