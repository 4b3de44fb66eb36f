/**
 * Finds and opens the native library made from `shim.c`: inside a compiled file, beside a packed program, or
 * built here when the program runs from source.
 */

import { GinnelError } from "../../base/errors.ts";
import { buildShim, isFile } from "./build_shim.ts";

const SYMBOLS = {
  tun_pending_size: { parameters: [], result: "u32" },
  tun_privilege: { parameters: [], result: "i32" },
  tun_open: { parameters: ["buffer", "i32", "buffer"], result: "i32" },
  tun_read: {
    parameters: ["i32", "buffer", "buffer", "u32", "buffer", "buffer", "u32", "u32"],
    result: "i32",
  },
  tun_write: { parameters: ["i32", "u32", "buffer", "u32", "buffer", "buffer", "u32"], result: "i32" },
  tun_wait: { parameters: ["i32", "i32"], result: "i32", nonblocking: true },
  tun_poll: { parameters: ["i32"], result: "i32" },
  tun_event: { parameters: [], result: "i32" },
  tun_signal: { parameters: ["i32"], result: "i32" },
  tun_set: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  tun_close: { parameters: ["i32"], result: "i32" },
} as const;

/** The opened library; whoever opened it closes it when none of its functions runs any more. */
export type Shim = Deno.DynamicLibrary<typeof SYMBOLS>;

/** Set by the self-extracting file (`src/cli/selfextract/stub.c`) to where it put the library. */
const PACKED_LIBRARY = "GINNEL_LIBRARY";

/** Opens the library; throws a {@linkcode GinnelError} that says what is missing. */
export function openShim(): Shim {
  if (Deno.build.os !== "linux") {
    throw new GinnelError("ERR_TUN_UNSUPPORTED", `TUN interfaces are not supported on ${Deno.build.os}`);
  }
  if (Deno.build.standalone) return openEmbedded(embeddedLibrary());
  const source = new URL("./shim.c", import.meta.url).pathname;
  if (!isFile(source)) return openPacked();
  const built = buildShim({ source, cache: new URL("../../../.cache/tun", import.meta.url).pathname });
  try {
    return open(built.path);
  } finally {
    built.release();
  }
}

/** Opens a library that is no file of the system's: its bytes go through memory, where nobody can change them. */
export function openEmbedded(library: string | URL): Shim {
  const bytes = Deno.readFileSync(library);
  // The runtime's own file functions refuse what lies in /proc unless everything is allowed.
  const libc = Deno.dlopen("libc.so.6", {
    memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
    write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
    close: { parameters: ["i32"], result: "i32" },
  });
  const fd = libc.symbols.memfd_create(new TextEncoder().encode("ginnel_tun.so\0"), MFD_CLOEXEC);
  try {
    const size = BigInt(bytes.length);
    if (fd < 0 || libc.symbols.write(fd, bytes, size) !== size) {
      throw libraryError("memory for it was refused");
    }
    return open(`/proc/self/fd/${fd}`);
  } finally {
    if (fd >= 0) libc.symbols.close(fd);
    libc.close();
  }
}

const MFD_CLOEXEC = 1;

/** Where `compile.sh` put the library before `deno compile --include`. */
function embeddedLibrary(): URL {
  return new URL(`../../../.cache/tun/ginnel_tun-${Deno.build.arch}.so`, import.meta.url);
}

function openPacked(): Shim {
  const library = Deno.env.get(PACKED_LIBRARY);
  if (library === undefined) throw libraryError("it was not packed with the program");
  return open(library);
}

function open(path: string): Shim {
  try {
    return Deno.dlopen(path, SYMBOLS);
  } catch (cause) {
    throw libraryError("it cannot be loaded", cause);
  }
}

function libraryError(why: string, cause?: unknown): GinnelError {
  const reason = cause instanceof Error ? `${why}: ${cause.message}` : why;
  return new GinnelError("ERR_TUN_LIBRARY", `The native library for TUN interfaces is unusable: ${reason}`, {
    hint: "Fetch the program again, or make it again with ./compile.sh.",
    cause,
  });
}
