/**
 * The request paths of a relay: the default templates of MASQUE (RFC 9298 §2, RFC 9484 §3, and the same form for
 * TCP) and Ginnel's own. Each variable is one path segment; everything but unreserved characters is
 * percent-encoded in it, so that `:` of an IPv6 address and `/` of a prefix cannot be taken for structure.
 */
import { parseIp, parsePrefix } from "../../base/ip.ts";

/** The largest port number. */
export const MAX_PORT = 65_535;

/** Longest host name (RFC 1035 §2.3.4). */
const MAX_HOST = 253;
/** Longest name of a connector: a SPIFFE ID with an instance. */
const MAX_CONNECTOR = 512;
/** Longest path that can be one of ours, every character of its longest variable percent-encoded. */
const MAX_PATH = 2048;

const MASQUE = "/.well-known/masque/";
const GINNEL = "/.well-known/ginnel/";

/** A host, which is a name or an IP address without brackets, and a port. */
export interface Target {
  readonly host: string;
  readonly port: number;
}

/** Which IP packets a tunnel is to carry. */
export interface IpScope {
  /** A host, an address, a prefix such as `10.0.0.0/8`, or `*`. */
  readonly target: string;
  /** An IP protocol number, or `*`. */
  readonly ipproto: number | "*";
}

/** What a path asks for; hosts and targets come in lower case. */
export type MasquePath =
  | ({ readonly kind: "tcp" | "udp" } & Target)
  | ({ readonly kind: "ip" } & IpScope)
  | { readonly kind: "session"; readonly connector: string }
  | { readonly kind: "view" | "connector" | "agent" };

/** The path of a TCP flow. */
export function tcpPath(target: Target): string {
  return `${MASQUE}tcp/${targetSegments(target)}/`;
}

/** The path of a UDP flow. */
export function udpPath(target: Target): string {
  return `${MASQUE}udp/${targetSegments(target)}/`;
}

/** The path of an IP tunnel. */
export function ipPath({ target, ipproto }: IpScope): string {
  if (!isScopeTarget(target.toLowerCase())) {
    throw new RangeError(`Cannot make a path to ${JSON.stringify(target)}: not a host, address, prefix or *`);
  }
  if (ipproto !== "*" && !(Number.isInteger(ipproto) && ipproto >= 0 && ipproto <= 255)) {
    throw new RangeError(`Cannot make a path for IP protocol ${ipproto}: expected 0 to 255 or *`);
  }
  return `${MASQUE}ip/${encodeSegment(target)}/${encodeSegment(String(ipproto))}/`;
}

/** The path of the end-to-end session with one connector. */
export function sessionPath(connector: string): string {
  if (!isConnector(connector)) throw new RangeError(`Cannot make a path to ${JSON.stringify(connector)}`);
  return `${GINNEL}session/${encodeSegment(connector)}/`;
}

/** The path of the signed view. */
export const VIEW_PATH = `${GINNEL}view`;
/** The path of a connector's reverse session. */
export const CONNECTOR_PATH = `${GINNEL}connector`;
/** The path of a browser's session. */
export const AGENT_PATH = `${GINNEL}agent`;

/** Reads a request's `:path`; `undefined` for anything but a whole, well-formed path of those above. */
export function parseMasquePath(path: string): MasquePath | undefined {
  if (path === VIEW_PATH) return { kind: "view" };
  if (path === CONNECTOR_PATH) return { kind: "connector" };
  if (path === AGENT_PATH) return { kind: "agent" };
  if (path.length > MAX_PATH) return undefined;
  if (path.startsWith(MASQUE)) return parseTunnel(path.slice(MASQUE.length).split("/"));
  if (path.startsWith(GINNEL)) return parseSession(path.slice(GINNEL.length).split("/"));
  return undefined;
}

/** `kind/{first}/{second}/`: the final slash leaves an empty last segment. */
function parseTunnel(segments: readonly string[]): MasquePath | undefined {
  const [kind, ...rest] = segments;
  if (rest.length !== 3 || rest[2] !== "") return undefined;
  const first = decodeSegment(rest[0] as string)?.toLowerCase();
  const second = decodeSegment(rest[1] as string);
  if (first === undefined || second === undefined) return undefined;
  if (kind === "tcp" || kind === "udp") {
    // RFC 9298 §2: the host is a name or an IP literal without a zone, the port from 1 to 65535.
    const port = parseDecimal(second, MAX_PORT);
    return isHost(first) && port !== undefined && port > 0 ? { kind, host: first, port } : undefined;
  }
  if (kind === "ip") {
    // RFC 9484 §4.6: the protocol is a number from 0 to 255 or a wildcard.
    const ipproto = second === "*" ? second : parseDecimal(second, 255);
    return isScopeTarget(first) && ipproto !== undefined ? { kind, target: first, ipproto } : undefined;
  }
  return undefined;
}

/** `session/{connector}/`. */
function parseSession(segments: readonly string[]): MasquePath | undefined {
  if (segments.length !== 3 || segments[0] !== "session" || segments[2] !== "") return undefined;
  const connector = decodeSegment(segments[1] as string);
  return connector !== undefined && isConnector(connector) ? { kind: "session", connector } : undefined;
}

function targetSegments({ host, port }: Target): string {
  if (!isHost(host.toLowerCase())) {
    throw new RangeError(`Cannot make a path to ${JSON.stringify(host)}: not a host name or IP address`);
  }
  if (!(Number.isInteger(port) && port > 0 && port <= MAX_PORT)) {
    throw new RangeError(`Cannot make a path to port ${port}: expected 1 to ${MAX_PORT}`);
  }
  return `${encodeSegment(host)}/${port}`;
}

function isHost(text: string): boolean {
  if (text.includes(":") || /^[0-9.]+$/.test(text)) return parseIp(text) !== undefined;
  return text.length <= MAX_HOST && /^(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.(?!$)|$))+$/.test(text);
}

function isScopeTarget(text: string): boolean {
  if (text === "*") return true;
  const slash = text.indexOf("/");
  if (slash < 0) return isHost(text);
  const prefix = parsePrefix(text);
  // RFC 9484 §4.6: the bits behind a prefix are zero.
  return prefix !== undefined && prefix.first === parseIp(text.slice(0, slash))?.value;
}

/** Connectors are named by the relay; here they are any visible ASCII. */
function isConnector(text: string): boolean {
  return text.length <= MAX_CONNECTOR && /^[\x21-\x7e]+$/.test(text);
}

/** Digits without leading zeros, up to `max`. */
function parseDecimal(text: string, max: number): number | undefined {
  if (!/^(?:0|[1-9]\d{0,4})$/.test(text)) return undefined;
  const value = Number(text);
  return value <= max ? value : undefined;
}

/** RFC 6570 §3.2.2: simple expansion encodes all but the unreserved characters. */
function encodeSegment(text: string): string {
  return encodeURIComponent(text).replace(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

/** Undoes {@linkcode encodeSegment}; sub-delimiters, `:` and `@` may also stand unencoded (RFC 3986 §3.3). */
function decodeSegment(segment: string): string | undefined {
  if (!/^(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*$/.test(segment)) return undefined;
  return segment.replace(/%(..)/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 16)));
}
