/**
 * Compiles the small C programs that tests and benches use, once per source text, into the checkout's .cache folder.
 */

import { runCommand } from "./processes.ts";

const FLAGS = ["-O2", "-Wall", "-Wextra", "-Werror", "-pthread"];

/** Returns the path of the program made from one C file; compiles it unless this very text was compiled before. */
export async function compileTool(source: URL): Promise<string> {
  const text = await Deno.readFile(source);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", text)).toHex().slice(0, 16);
  const name = source.pathname.slice(source.pathname.lastIndexOf("/") + 1, -".c".length);
  const folder = new URL("../../.cache/tools/", import.meta.url).pathname;
  const binary = `${folder}${name}-${digest}`;
  if (await exists(binary)) return binary;
  await Deno.mkdir(folder, { recursive: true });
  // Compile beside the final name and rename: two runs at once must not execute half a file.
  const partial = `${binary}.${Deno.pid}`;
  await runCommand(["gcc", ...FLAGS, "-o", partial, source.pathname]);
  await Deno.rename(partial, binary);
  return binary;
}

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
