/** The text of a resolv.conf of ours: pure. Its first line says whose it is and shows whether anybody changed it. */

import { createHash } from "node:crypto";
import { formatIp, type IpAddress } from "../../base/ip.ts";

/** What the first line of a resolv.conf of ours says. */
export interface ResolverMark {
  /** The lock of the process that wrote it. */
  readonly owner: string;
  /** Whether the rest stands as it was written. */
  readonly intact: boolean;
}

const MARK = /^# Written by ginnel \((\S{1,256})\), put back when it stops: ([0-9a-f]{16})\n/;

/** Writes the file that asks `servers`, and no others. */
export function renderResolvConf(servers: readonly IpAddress[], owner: string): string {
  const body = servers.map((server) => `nameserver ${formatIp(server)}\n`).join("");
  return `# Written by ginnel (${owner}), put back when it stops: ${digest(body)}\n${body}`;
}

/** Reads the mark of a file of ours; `undefined` for anybody else's. */
export function readMark(text: string): ResolverMark | undefined {
  const match = MARK.exec(text);
  if (match === null) return undefined;
  return { owner: match[1] as string, intact: digest(text.slice(match[0].length)) === match[2] };
}

/** Whether names are asked of systemd-resolved's own listener. */
export function asksResolved(text: string): boolean {
  return /^\s*nameserver\s+127\.0\.0\.5[34]\s*$/m.test(text);
}

function digest(body: string): string {
  return createHash("sha256").update(body).digest("hex").slice(0, 16);
}
