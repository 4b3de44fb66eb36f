/**
 * Runs the program as the user nobody, with the capabilities that a test gives it and no others. What that user may not
 * reach, such as the runtime in root's home, is shown to it where it may.
 */

import { runCommand } from "./processes.ts";
import type { TunnelGround } from "./tunnel_ground.ts";

/** The user's number. */
export const NOBODY = 65_534;

const SOURCE = new URL("../..", import.meta.url).pathname;

/** A program for {@linkcode TunnelGround.create} that is nobody's; disposing it removes what it needs. */
export class OrdinaryUser implements AsyncDisposable {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Prepares the program. */
  static async create(): Promise<OrdinaryUser> {
    const folder = await Deno.makeTempDir({ prefix: "ginnel-nobody-" });
    await Deno.chmod(folder, 0o755);
    for (const name of ["cache", "source", "home"]) await Deno.mkdir(`${folder}/${name}`);
    await Deno.chown(`${folder}/home`, NOBODY, NOBODY);
    await Deno.writeTextFile(`${folder}/deno`, "");
    const info = JSON.parse(await runCommand([Deno.execPath(), "info", "--json"])) as { denoDir: string };
    // Nodes of a ground have a mount namespace of their own: nobody else sees these.
    const script = `#!/bin/sh -e
      cd ${folder}
      mount --bind ${Deno.execPath()} deno; mount --bind ${info.denoDir} cache; mount --bind ${SOURCE} source
      exec setpriv --reuid=${NOBODY} --regid=${NOBODY} --clear-groups $RIGHTS \\
        env HOME=${folder}/home DENO_DIR=${folder}/cache ${folder}/deno run --quiet --allow-all --unstable-net \\
        ${folder}/source/main.ts "$@"`;
    await Deno.writeTextFile(`${folder}/ginnel`, script, { mode: 0o755 });
    return new OrdinaryUser(folder);
  }

  /** The command line that runs the program. */
  get program(): readonly string[] {
    return [`${this.#folder}/ginnel`];
  }

  /** What stands in front of it to give it rights: options of `setpriv`. */
  withRights(...options: readonly string[]): readonly string[] {
    return ["env", `RIGHTS=${options.join(" ")}`];
  }

  /** Makes the user owner of a ground's files. */
  async takeOver(ground: TunnelGround): Promise<void> {
    const { folder } = ground.deployment;
    await Deno.chmod(folder, 0o755);
    await runCommand(["chown", "-R", `${NOBODY}:${NOBODY}`, folder]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.#folder, { recursive: true });
  }
}
