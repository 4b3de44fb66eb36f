/** What the records of a foreign response are about: whose they are, and where they lead. */

import { type IpAddress, ipFromBytes } from "../../base/ip.ts";
import { DNS_HEADER, DNS_TYPE } from "./codes.ts";
import { readCompressedName } from "./names.ts";

/** One record of any section. */
export interface DnsRecordView {
  /** In lower case, without the final dot. */
  readonly owner: string;
  /** The address that it gives. */
  readonly address?: IpAddress;
  /** The name that it says the owner stands for. */
  readonly alias?: string;
}

/** Types by which a name stands for another one. */
const ALIASES: readonly number[] = [5, 39];
/** Bytes between a record's owner and its data. */
const RECORD_REST = 10;

/** Reads the records behind the question of a response; `undefined` where one is malformed. */
export function readDnsRecords(bytes: Uint8Array, questionEnd: number): DnsRecordView[] | undefined {
  const uint16 = (offset: number) => (bytes[offset]! << 8) | bytes[offset + 1]!;
  if (bytes.length < Math.max(questionEnd, DNS_HEADER)) return undefined;
  const records: DnsRecordView[] = [];
  let offset = questionEnd;
  for (let left = uint16(6) + uint16(8) + uint16(10); left > 0; left--) {
    const owner = readCompressedName(bytes, offset);
    if (owner === undefined || owner.end + RECORD_REST > bytes.length) return undefined;
    const type = uint16(owner.end);
    const data = owner.end + RECORD_REST;
    offset = data + uint16(owner.end + 8);
    if (offset > bytes.length) return undefined;
    if (type === DNS_TYPE.A || type === DNS_TYPE.AAAA) {
      if (offset - data !== (type === DNS_TYPE.A ? 4 : 16)) return undefined;
      records.push({ owner: owner.text, address: ipFromBytes(bytes.subarray(data, offset)) });
    } else if (ALIASES.includes(type)) {
      const alias = readCompressedName(bytes, data);
      if (alias?.end !== offset) return undefined;
      records.push({ owner: owner.text, alias: alias.text });
    } else records.push({ owner: owner.text });
  }
  return records;
}
