/** The command line of a process that belongs to the bench. */

/** Runs a script of this folder with its arguments. */
export function benchScript(name: string, args: readonly string[]): string[] {
  const path = new URL(`./${name}`, import.meta.url).pathname;
  return [Deno.execPath(), "run", "--quiet", "--no-check", "--allow-all", "--unstable-net", path, ...args];
}
