/**
 * What libc does for the set-up and the runtime does not: files of /proc, which a Deno program without all
 * permissions may not open, and handing CAP_NET_ADMIN on to the programs we run. Linux only.
 */

import { utf8 } from "../../base/bytes.ts";
import { GinnelError } from "../../base/errors.ts";

/** Reads and writes small files of the kernel; tests replace it. */
export interface KernelFiles {
  /** The text without its final newline, or `undefined` where there is no such file. */
  read(path: string): string | undefined;
  /** Writes the whole text at once; throws `ERR_KERNEL_FILE` where the kernel refuses. */
  write(path: string, text: string): void;
  /** What a symbolic link holds, or `undefined` where there is none. */
  readLink(path: string): string | undefined;
}

/** The kernel's files below /proc, through libc. */
export const SYSTEM_FILES: KernelFiles = { read: readFile, write: writeFile, readLink };

/**
 * Lets the programs we run have the CAP_NET_ADMIN that this program has by `setcap`: without it the kernel takes
 * it from them. Returns whether they have it; as root they have it anyway.
 */
export function inheritNetAdmin(): boolean {
  if (Deno.build.os !== "linux") return false;
  const { symbols } = library();
  const header = new Uint32Array([CAPABILITY_VERSION, 0]);
  const sets = new Uint32Array(6);
  if (symbols.capget(header, sets) !== 0) return false;
  const mine = ((sets[PERMITTED] ?? 0) & NET_ADMIN_BIT) !== 0;
  if (!mine) return false;
  sets[INHERITABLE] = (sets[INHERITABLE] ?? 0) | NET_ADMIN_BIT;
  return symbols.capset(header, sets) === 0 &&
    symbols.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0n, 0n) === 0;
}

/** Bytes of the largest file read here. */
const MAX_BYTES = 4_096;

const O_RDONLY = 0;
const O_WRONLY = 1;
const O_CLOEXEC = 0o2000000;

const ENOENT = 2;
const EINVAL = 22;

/** linux/capability.h: two sets of three words, of which the first holds the capabilities below 32. */
const CAPABILITY_VERSION = 0x2008_0522;
const PERMITTED = 1;
const INHERITABLE = 2;
const CAP_NET_ADMIN = 12n;
const NET_ADMIN_BIT = 1 << 12;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_RAISE = 2n;

const SYMBOLS = {
  open: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  close: { parameters: ["i32"], result: "i32" },
  readlink: { parameters: ["buffer", "buffer", "usize"], result: "isize" },
  capget: { parameters: ["buffer", "buffer"], result: "i32" },
  capset: { parameters: ["buffer", "buffer"], result: "i32" },
  prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
  strerror: { parameters: ["i32"], result: "pointer" },
  __errno_location: { parameters: [], result: "pointer" },
} as const;

let loaded: Deno.DynamicLibrary<typeof SYMBOLS> | undefined;

/** Opened once and kept: the program uses it until its end. */
function library(): Deno.DynamicLibrary<typeof SYMBOLS> {
  loaded ??= Deno.dlopen("libc.so.6", SYMBOLS);
  return loaded;
}

function readFile(path: string): string | undefined {
  const { symbols } = library();
  const fd = symbols.open(cString(path), O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return absent("read", path);
  try {
    const bytes = new Uint8Array(MAX_BYTES);
    const size = Number(symbols.read(fd, bytes, BigInt(MAX_BYTES)));
    if (size < 0) throw failure("read", path, errno());
    return new TextDecoder().decode(bytes.subarray(0, size)).replace(/\n$/, "");
  } finally {
    symbols.close(fd);
  }
}

function writeFile(path: string, text: string): void {
  const { symbols } = library();
  const fd = symbols.open(cString(path), O_WRONLY | O_CLOEXEC, 0);
  if (fd < 0) throw failure("write", path, errno());
  try {
    const bytes = utf8(text);
    if (Number(symbols.write(fd, bytes, BigInt(bytes.length))) !== bytes.length) {
      throw failure("write", path, errno());
    }
  } finally {
    symbols.close(fd);
  }
}

function readLink(path: string): string | undefined {
  const bytes = new Uint8Array(MAX_BYTES);
  const size = Number(library().symbols.readlink(cString(path), bytes, BigInt(MAX_BYTES)));
  return size < 0 ? absent("read", path) : new TextDecoder().decode(bytes.subarray(0, size));
}

function absent(doing: string, path: string): undefined {
  const code = errno();
  if (code !== ENOENT && code !== EINVAL) throw failure(doing, path, code);
  return undefined;
}

function failure(doing: string, path: string, code: number): GinnelError {
  const text = library().symbols.strerror(code);
  const reason = text === null ? `error ${code}` : Deno.UnsafePointerView.getCString(text);
  return new GinnelError("ERR_KERNEL_FILE", `Cannot ${doing} ${path}: ${reason}`);
}

function errno(): number {
  const pointer = library().symbols.__errno_location();
  return pointer === null ? 0 : new Deno.UnsafePointerView(pointer).getInt32();
}

function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) throw new RangeError("Cannot open a path with a zero byte");
  return utf8(`${text}\0`);
}
