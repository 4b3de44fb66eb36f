/**
 * Strict parsing of `host:port` and of upstreams. A parser that does not consume its whole input fails.
 */

/** A host name or address with a port; an IPv6 host carries no brackets. */
export interface HostPort {
  readonly hostname: string;
  readonly port: number;
}

/** Reads `host:port` or `[v6]:port`; throws `SyntaxError` naming the value. */
export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9_.-]{1,253})):([0-9]{1,5})$/.exec(text);
  const hostname = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (hostname === undefined || port > 65_535) {
    throw new SyntaxError(`Cannot read address ${JSON.stringify(text)}: expected host:port or [ipv6]:port`);
  }
  return { hostname, port };
}

/** Writes the form {@linkcode parseHostPort} reads. */
export function formatHostPort(address: HostPort): string {
  const host = address.hostname.includes(":") ? `[${address.hostname}]` : address.hostname;
  return `${host}:${address.port}`;
}

/** Where a connector pipes a flow to. */
export type Upstream =
  | { readonly kind: "tcp"; readonly hostname: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

/** Where a connector sends datagrams to. */
export interface UdpUpstream extends HostPort {
  readonly kind: "udp";
}

/** Reads `udp://host:port`; throws `SyntaxError` naming the value. */
export function parseUdpUpstream(text: string): UdpUpstream {
  if (text.startsWith("udp://")) return { kind: "udp", ...parseHostPort(text.slice("udp://".length)) };
  throw new SyntaxError(`Cannot read upstream ${JSON.stringify(text)}: expected udp://host:port`);
}

/** Reads `tcp://host:port` or `unix:/path`; throws `SyntaxError` naming the value. */
export function parseUpstream(text: string): Upstream {
  if (text.startsWith("unix:/")) return { kind: "unix", path: text.slice("unix:".length) };
  if (text.startsWith("tcp://")) return { kind: "tcp", ...parseHostPort(text.slice("tcp://".length)) };
  throw new SyntaxError(
    `Cannot read upstream ${JSON.stringify(text)}: expected tcp://host:port or unix:/absolute/path`,
  );
}
