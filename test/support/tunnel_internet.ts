/**
 * The outside world of a tunnel ground, run in its own namespace: a web server, TCP and UDP echo, and a name server
 * whose names come from a file that may change at any time. NAMES_FILE ADDRESS...; prints "ready".
 */

/** Ports of what the internet offers. */
export const INTERNET_PORTS = { echo: 7, dns: 53, web: 80, otherWeb: 8080 } as const;

/** A name and what it stands for; exactly one of the two. */
export interface InternetName {
  readonly addresses?: readonly string[];
  readonly alias?: string;
  /** Seconds. */
  readonly ttl: number;
}

/** `count` bytes that look random and are the same every time. */
export function patternBytes(count: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(count / 4));
  let state = 0x9e3779b9;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer).subarray(0, count);
}

/** SHA-256 in hexadecimal. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Answers a query for A or AAAA from the names; `undefined` for what is no query. */
export function answerQuery(
  query: Uint8Array,
  names: Readonly<Record<string, InternetName>>,
): Uint8Array<ArrayBuffer> | undefined {
  if (query.length < 17 || (query[2]! & 0x80) !== 0) return undefined;
  const labels = [];
  let at = 12;
  while (query[at] !== 0) {
    const length = query[at]!;
    if (length === undefined || length > 63 || at + 1 + length >= query.length) return undefined;
    labels.push(new TextDecoder().decode(query.subarray(at + 1, at + 1 + length)).toLowerCase());
    at += 1 + length;
  }
  const end = at + 5;
  if (end > query.length) return undefined;
  const records = resolve(labels.join("."), { names, type: query[at + 1]! << 8 | query[at + 2]! });
  const found = names[labels.join(".")] !== undefined;
  const header = [query[0]!, query[1]!, 0x81, found ? 0x80 : 0x83, 0, 1, 0, records.length, 0, 0, 0, 0];
  return new Uint8Array([...header, ...query.subarray(12, end), ...records.flat()]);
}

function resolve(
  name: string,
  { names, type }: { readonly names: Readonly<Record<string, InternetName>>; readonly type: number },
): number[][] {
  const entry = names[name];
  if (entry === undefined) return [];
  if (entry.alias !== undefined) {
    const alias = record({ name, type: 5, ttl: entry.ttl }, encodeName(entry.alias));
    return [alias, ...resolve(entry.alias, { names, type })];
  }
  return (entry.addresses ?? []).map(addressBytes).filter((bytes) => bytes.length === (type === 1 ? 4 : 16))
    .filter(() => type === 1 || type === 28).map((bytes) => record({ name, type, ttl: entry.ttl }, bytes));
}

function record(
  { name, type, ttl }: { readonly name: string; readonly type: number; readonly ttl: number },
  data: readonly number[],
): number[] {
  const time = [ttl >>> 24, ttl >>> 16, ttl >>> 8, ttl].map((byte) => byte & 255);
  return [...encodeName(name), 0, type, 0, 1, ...time, data.length >> 8, data.length & 255, ...data];
}

function encodeName(name: string): number[] {
  const labels = name.split(".").map((label) => [...new TextEncoder().encode(label)]);
  return [...labels.flatMap((label) => [label.length, ...label]), 0];
}

/** Of an IPv4 address, or an IPv6 address with one `::`. */
function addressBytes(address: string): number[] {
  if (!address.includes(":")) return address.split(".").map(Number);
  const [head = "", tail = ""] = address.split("::");
  const words = (text: string) => text === "" ? [] : text.split(":").map((word) => Number.parseInt(word, 16));
  const left = words(head), right = words(tail);
  const all = [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right];
  return all.flatMap((word) => [word >> 8, word & 255]);
}

async function serveWeb(request: Request, peer: string): Promise<Response> {
  const { pathname } = new URL(request.url);
  if (pathname === "/ip") return new Response(peer.replace(/^::ffff:/, ""));
  const [, count] = /^\/bytes\/(\d{1,9})$/.exec(pathname) ?? [];
  if (count !== undefined) return new Response(patternBytes(Number(count)));
  if (pathname === "/sink") {
    const bytes = await request.bytes();
    return Response.json({ bytes: bytes.length, sha256: await sha256(bytes) });
  }
  return new Response("not found", { status: 404 });
}

async function echoTcp(listener: Deno.Listener): Promise<void> {
  for await (const connection of listener) {
    // A peer that is cut off mid-way is what some tests are about.
    connection.readable.pipeTo(connection.writable).catch(() => {/* it ends here either way */});
  }
}

/** One socket per address: from a wildcard socket the answer would carry another source than the question's target. */
async function serveUdp(
  place: { readonly hostname: string; readonly port: number },
  answer: (bytes: Uint8Array) => Uint8Array | undefined,
): Promise<void> {
  const socket = Deno.listenDatagram({ ...place, transport: "udp" });
  for (;;) {
    const [bytes, from] = await socket.receive(new Uint8Array(65_536));
    const reply = answer(bytes);
    // A full queue or an ICMP error loses one datagram, not the service.
    if (reply !== undefined) socket.send(reply, from).catch(() => {/* lost, as UDP may be */});
  }
}

function serveInternet(namesFile: string, addresses: readonly string[]): void {
  for (const port of [INTERNET_PORTS.web, INTERNET_PORTS.otherWeb]) {
    Deno.serve(
      { hostname: "::", port, onListen: () => {} },
      (request, { remoteAddr }) => serveWeb(request, (remoteAddr as Deno.NetAddr).hostname),
    );
  }
  void echoTcp(Deno.listen({ hostname: "::", port: INTERNET_PORTS.echo }));
  const names = () => JSON.parse(Deno.readTextFileSync(namesFile));
  for (const hostname of addresses) {
    void serveUdp({ hostname, port: INTERNET_PORTS.echo }, (bytes) => bytes);
    void serveUdp({ hostname, port: INTERNET_PORTS.dns }, (query) => answerQuery(query, names()));
  }
  console.log("ready");
}

if (import.meta.main) serveInternet(Deno.args[0] ?? "", Deno.args.slice(1));
