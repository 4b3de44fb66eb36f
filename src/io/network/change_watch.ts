/**
 * Tells that something changed in this machine's links, addresses or routes, by asking the kernel for its notices
 * (rtnetlink) and never waiting for one. What changed is read anew by whoever wants to know.
 */

import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";

/** Notices of the kernel about its network, of our own changes too. */
export class ChangeWatch implements Disposable {
  readonly #notice = new Uint8Array(NOTICE_SIZE);
  #socket: NoticeSocket | undefined;

  /** Watches from now on. Where the kernel gives no notices, nothing ever changes. */
  constructor({ logger }: { readonly logger: Logger }) {
    try {
      this.#socket = openSocket();
    } catch (error) {
      logger.debug("network_changes_unseen", { detail: errorMessage(error) });
    }
  }

  /** Whether anything changed since the last call. */
  take(): boolean {
    if (this.#socket === undefined) return false;
    const { fd, library: { symbols } } = this.#socket;
    const size = BigInt(NOTICE_SIZE);
    let changed = false;
    // Until twice in a row there is nothing: an overflow is told once, in place of a notice.
    for (let misses = 0, reads = 0; misses < 2 && reads < MAX_READS; reads++) {
      const hasNotice = symbols.recv(fd, this.#notice, size, MSG_DONTWAIT) > 0;
      if (hasNotice) changed = true;
      misses = hasNotice ? 0 : misses + 1;
    }
    return changed;
  }

  [Symbol.dispose](): void {
    this.#socket?.library.symbols.close(this.#socket.fd);
    this.#socket?.library.close();
    this.#socket = undefined;
  }
}

/** That there is a notice is enough: the rest of it is dropped. */
const NOTICE_SIZE = 16;

/** Notices taken at once; more of them are found by the next call. */
const MAX_READS = 10_000;

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_ROUTE = 0;
const MSG_DONTWAIT = 0x40;

/** linux/rtnetlink.h: links, and the addresses and routes of both versions. */
const GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

const SYMBOLS = {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  close: { parameters: ["i32"], result: "i32" },
} as const;

interface NoticeSocket {
  readonly library: Deno.DynamicLibrary<typeof SYMBOLS>;
  readonly fd: number;
}

function openSocket(): NoticeSocket {
  const library = Deno.dlopen("libc.so.6", SYMBOLS);
  const { symbols } = library;
  const fd = symbols.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  // struct sockaddr_nl; the kernel chooses the port.
  const address = new Uint32Array(3);
  new Uint16Array(address.buffer)[0] = AF_NETLINK;
  address[2] = GROUPS;
  if (fd >= 0 && symbols.bind(fd, address, address.byteLength) === 0) return { library, fd };
  if (fd >= 0) symbols.close(fd);
  library.close();
  throw new Error("Cannot open a netlink socket");
}
