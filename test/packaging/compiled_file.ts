/** Builds the single files once per process of tests, and starts them as on a bare machine. */

import assert from "node:assert/strict";

const ROOT = new URL("../..", import.meta.url).pathname;

/** What a start of a compiled file came to. */
export interface Started {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How to build: `selfextract` with fast compression, or as `compile.sh` decides. */
export interface BuildOptions {
  readonly arch: "x86_64" | "aarch64";
  readonly entry: string;
  readonly pack: "auto" | "selfextract";
}

/** The architecture of this machine. */
export const NATIVE = Deno.build.arch;

const BUILT = new Map<string, Promise<string>>();

/** Runs `compile.sh` for one architecture and entry; returns the file it made. */
export function build(options: BuildOptions): Promise<string> {
  const key = JSON.stringify(options);
  const path = BUILT.get(key) ?? runCompileScript(options);
  BUILT.set(key, path);
  return path;
}

/** An empty folder that goes when it leaves scope. */
export async function emptyFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await Deno.makeTempDir({ prefix: "ginnel-packaging-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** Starts `command` in `folder` with no PATH and an environment of `env` alone. */
export async function startBare(
  command: readonly string[],
  { folder, env }: { readonly folder: string; readonly env: Readonly<Record<string, string>> },
): Promise<Started> {
  const [program = "", ...args] = command;
  const output = await new Deno.Command(program, {
    args,
    cwd: folder,
    clearEnv: true,
    env: { PATH: "/nonexistent", ...env },
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  return { code: output.code, stdout: text.decode(output.stdout), stderr: text.decode(output.stderr) };
}

async function runCompileScript({ arch, entry, pack }: BuildOptions): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "ginnel-dist-" });
  globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
  const output = await new Deno.Command(`${ROOT}compile.sh`, {
    args: [arch],
    cwd: ROOT,
    env: {
      GINNEL_DIST: folder,
      GINNEL_ENTRY: entry,
      GINNEL_PACK: pack,
      GINNEL_PACK_LEVEL: "3",
      GINNEL_MEASURE: "no",
    },
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  assert.ok(
    output.success,
    `compile.sh ${arch} failed:\n${text.decode(output.stdout)}${text.decode(output.stderr)}`,
  );
  return `${folder}/ginnel-linux-${arch}`;
}
