/**
 * The sockets of a process as the kernel shows them: those its descriptors point to, looked up in the tables of
 * its network namespace.
 */

/** One socket. */
export interface ProcessSocket {
  readonly kind: "tcp" | "udp" | "unix" | "netlink" | "unknown";
  /** Local port; 0 where there is none. */
  readonly port: number;
  /** Takes connections from others: a listening TCP or unix socket. */
  readonly listens: boolean;
  /** Where a unix socket lies that has a place. */
  readonly path?: string;
}

/** All sockets of a process, in the order of their descriptors. */
export function socketsOf(pid: number): ProcessSocket[] {
  const tables = readTables(pid);
  const sockets: ProcessSocket[] = [];
  for (const { name } of Deno.readDirSync(`/proc/${pid}/fd`)) {
    const inode = /^socket:\[(\d+)\]$/.exec(readLink(`/proc/${pid}/fd/${name}`))?.[1];
    if (inode !== undefined) {
      sockets.push(tables.get(inode) ?? { kind: "unknown", port: 0, listens: false });
    }
  }
  return sockets;
}

/** State "listen" of the TCP tables. */
const TCP_LISTEN = "0A";
/** The flag of a unix socket that takes connections (`__SO_ACCEPTCON`). */
const UNIX_ACCEPTS = 0x10000;

/** Columns of the tables that matter, counted from 0. */
const TABLES = [
  { file: "tcp", kind: "tcp", inode: 9, address: 1, state: 3 },
  { file: "tcp6", kind: "tcp", inode: 9, address: 1, state: 3 },
  { file: "udp", kind: "udp", inode: 9, address: 1, state: 3 },
  { file: "udp6", kind: "udp", inode: 9, address: 1, state: 3 },
  { file: "unix", kind: "unix", inode: 6, address: undefined, state: 3 },
  { file: "netlink", kind: "netlink", inode: 9, address: undefined, state: undefined },
] as const;

function readTables(pid: number): Map<string, ProcessSocket> {
  const sockets = new Map<string, ProcessSocket>();
  for (const { file, kind, inode, address, state } of TABLES) {
    for (const line of Deno.readTextFileSync(`/proc/${pid}/net/${file}`).trim().split("\n").slice(1)) {
      const columns = line.trim().split(/\s+/);
      const port = address === undefined ? 0 : Number.parseInt(columns[address]!.split(":")[1]!, 16);
      const listens = kind === "tcp"
        ? columns[state] === TCP_LISTEN
        : kind === "unix" && (Number.parseInt(columns[state]!, 16) & UNIX_ACCEPTS) !== 0;
      const path = kind === "unix" ? columns[7] : undefined;
      sockets.set(columns[inode]!, { kind, port, listens, ...(path === undefined ? {} : { path }) });
    }
  }
  return sockets;
}

function readLink(path: string): string {
  try {
    return Deno.readLinkSync(path);
  } catch (error) {
    // Closed since the folder was read.
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}
