/**
 * Builds `shim.c` when the program runs from source: once per content and architecture, into a folder of the source
 * tree, which is trusted as much as the source itself.
 */

import { createHash } from "node:crypto";
import { errorMessage, GinnelError } from "../../base/errors.ts";

/** A library on disk; `release()` removes it where it could not be kept. */
export interface BuiltShim {
  readonly path: string;
  release(): void;
}

/** What to build and where to keep it. */
export interface BuildShimOptions {
  /** The C file; it names its compiler flags itself. */
  readonly source: string;
  readonly cache: string;
  /** Compilers to try; default `cc`, `gcc`, `clang`. */
  readonly compilers?: readonly string[];
}

/** Returns the library made from `source`; throws a {@linkcode GinnelError} when there is no compiler. */
export function buildShim(
  { source, cache, compilers = ["cc", "gcc", "clang"] }: BuildShimOptions,
): BuiltShim {
  const text = Deno.readTextFileSync(source);
  const hash = createHash("sha256").update(text).digest("hex").slice(0, 32);
  const path = `${cache}/ginnel_tun-${Deno.build.arch}-${hash}.so`;
  if (isFile(path)) return { path, release() {} };
  const flags = /^ \* build: (.+)$/m.exec(text)?.[1]?.split(" ") ?? [];
  const folder = makeFolder(cache);
  const release = () => folder.kept || Deno.removeSync(folder.path, { recursive: true });
  const made = `${folder.path}/ginnel_tun-${Deno.pid}-${crypto.randomUUID()}.so`;
  try {
    compile([...flags, "-o", made, source], compilers);
  } catch (error) {
    release();
    throw error;
  }
  if (!folder.kept) return { path: made, release };
  // Several processes may build at once: the move is atomic, and whoever comes last wins with the same content.
  Deno.renameSync(made, path);
  return { path, release() {} };
}

/** Whether a file is there that we may read. */
export function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    const { NotFound, NotADirectory, NotCapable } = Deno.errors;
    if ([NotFound, NotADirectory, NotCapable].some((absent) => error instanceof absent)) return false;
    throw error;
  }
}

function compile(args: readonly string[], compilers: readonly string[]): void {
  for (const compiler of compilers) {
    const output = attempt(compiler, args);
    if (output === undefined) continue;
    if (output.success) return;
    const said = new TextDecoder().decode(output.stderr).trim();
    throw new GinnelError("ERR_TUN_BUILD", `${compiler} cannot build src/io/tun/shim.c:\n${said}`);
  }
  throw new GinnelError(
    "ERR_TUN_NO_COMPILER",
    "Running from source needs a C compiler for TUN interfaces, and there is none",
    { hint: "Install one (apt-get install -y gcc libc6-dev), or use the file that ./compile.sh makes." },
  );
}

/** Runs a compiler; `undefined` when it is not there. */
function attempt(compiler: string, args: readonly string[]): Deno.CommandOutput | undefined {
  try {
    return new Deno.Command(compiler, { args: [...args], stdin: "null" }).outputSync();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    if (!(error instanceof Deno.errors.NotCapable)) throw error;
    throw new GinnelError(
      "ERR_TUN_BUILD",
      `Running from source builds src/io/tun/shim.c, which was not permitted: ${errorMessage(error)}`,
      { hint: "Start it with --allow-run, or use the file that ./compile.sh makes.", cause: error },
    );
  }
}

/** The cache, or where the source cannot be written a folder for this once. */
function makeFolder(cache: string): { readonly path: string; readonly kept: boolean } {
  try {
    Deno.mkdirSync(cache, { recursive: true });
    const probe = Deno.makeTempFileSync({ dir: cache });
    Deno.removeSync(probe);
    return { path: cache, kept: true };
  } catch {
    return { path: Deno.makeTempDirSync({ prefix: "ginnel-tun-" }), kept: false };
  }
}
