/** One query to one name server, by UDP or TCP, heard only as the answer to just that query. */

import { formatIp, type IpAddress, parseIp } from "../../base/ip.ts";
import { DNS_UDP_SIZE } from "../../wire/dns/codes.ts";
import type { DnsQuery } from "../../wire/dns/query.ts";
import { type DnsOutcome, readDnsOutcome, withDnsId } from "../../wire/dns/response_view.ts";
import { DnsMessageReader, frameDnsMessage } from "../../wire/dns/tcp_framing.ts";

/** A name server. */
export interface DnsServer {
  readonly address: IpAddress;
  /** Default 53. */
  readonly port?: number;
}

/** What a server said. */
export interface DnsServerAnswer extends DnsOutcome {
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** What to ask, and until when. */
export interface AskOptions {
  readonly query: DnsQuery;
  readonly signal: AbortSignal;
}

/** Where the size of an OPT record stands, behind the question: root name and type come first. */
const OPT_SIZE = 3;

/** Asks by UDP; rejects when the signal fires, or where there is no way to the server. */
export async function askByUdp(
  { address, port = 53 }: DnsServer,
  { query, signal }: AskOptions,
): Promise<DnsServerAnswer> {
  const { message, id } = underRandomId(query);
  const hostname = formatIp(address);
  // The kernel picks a random port: a forger must guess it along with the id (RFC 5452 §9.2).
  const any = address.version === 4 ? "0.0.0.0" : "::";
  using socket = closable(Deno.listenDatagram({ transport: "udp", hostname: any, port: 0 }), signal);
  await socket.conn.send(message, { transport: "udp", hostname, port });
  for (;;) {
    const [bytes, from] = await socket.conn.receive(new Uint8Array(4 * DNS_UDP_SIZE));
    if (from.transport !== "udp" || from.port !== port) continue;
    // RFC 5452 §9.1: a response comes from the address that was asked.
    if (parseIp(from.hostname)?.value !== address.value) continue;
    const outcome = readDnsOutcome(bytes, query, id);
    if (outcome !== undefined) return { ...outcome, bytes: new Uint8Array(bytes) };
  }
}

/** Asks by TCP; rejects when the signal fires, or the server breaks off. */
export async function askByTcp(
  { address, port = 53 }: DnsServer,
  { query, signal }: AskOptions,
): Promise<DnsServerAnswer> {
  const { message, id } = underRandomId(query);
  const conn = await Deno.connect({ hostname: formatIp(address), port, signal });
  using socket = closable(conn, signal);
  const framed = frameDnsMessage(message);
  for (let done = 0; done < framed.length;) done += await socket.conn.write(framed.subarray(done));
  const reader = new DnsMessageReader();
  const chunk = new Uint8Array(4_096);
  for (;;) {
    const count = await socket.conn.read(chunk);
    if (count === null) throw new Deno.errors.UnexpectedEof("The name server broke off");
    reader.push(chunk.subarray(0, count));
    for (let bytes = reader.next(); bytes !== undefined; bytes = reader.next()) {
      const outcome = readDnsOutcome(bytes, query, id);
      if (outcome !== undefined) return { ...outcome, bytes };
    }
  }
}

function underRandomId(query: DnsQuery): { message: Uint8Array; id: number } {
  const id = crypto.getRandomValues(new Uint16Array(1))[0]!;
  const message = withDnsId(query.bytes, id);
  if (query.edns !== undefined && query.edns.size > DNS_UDP_SIZE) {
    message[query.questionEnd + OPT_SIZE] = DNS_UDP_SIZE >> 8;
    message[query.questionEnd + OPT_SIZE + 1] = DNS_UDP_SIZE & 0xff;
  }
  return { message, id };
}

/** A socket that closes with its scope, or when the signal fires; what waits for it then rejects. */
function closable<T extends { close(): void }>(conn: T, signal: AbortSignal): Disposable & { conn: T } {
  let open = true;
  const close = () => {
    if (open) conn.close();
    open = false;
  };
  if (signal.aborted) close();
  signal.addEventListener("abort", close, { once: true });
  return {
    conn,
    [Symbol.dispose]: () => {
      signal.removeEventListener("abort", close);
      close();
    },
  };
}
