/**
 * Nodes as services of systemd: put there with all they need, and taken away without a trace.
 */

import { join } from "node:path";
import { GinnelError } from "../../base/errors.ts";
import { pathExists } from "../../base/paths.ts";
import { type Config, loadConfig } from "../../config/parse_config.ts";
import { undoLeftovers } from "./leftovers.ts";
import { fillHome } from "./service_home.ts";
import { needsOf, renderUnit, unitName } from "./unit.ts";

/** Where to install, and how. */
export interface InstallOptions {
  /** The config file. */
  readonly config: string;
  /** Absolute path of the program. */
  readonly program: string;
  /** Start it, and at every boot. */
  readonly now: boolean;
}

/** What was put where. */
export interface Installed {
  readonly mode: Config["mode"];
  readonly unit: string;
  readonly home: string;
}

/** Modes whose folder holds what cannot be had again: a network's CA, its database. */
const PRECIOUS: ReadonlySet<Config["mode"]> = new Set(["relay", "controller"]);

/** The parts of a machine that an installation touches; below `root`, which is `/` but in tests and image builds. */
export class ServiceManager {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  /** The unit as {@linkcode install} would write it. */
  async show({ config: path, program }: Omit<InstallOptions, "now">): Promise<string> {
    const config = await loadConfig(path);
    return renderUnit({ mode: config.mode, program, needs: needsOf(config) });
  }

  /** Installs a node; throws `ERR_SERVICE_INSTALLED` where one of its mode is installed already. */
  async install(options: InstallOptions): Promise<Installed> {
    const config = await loadConfig(options.config);
    const { mode } = config;
    const unit = this.#unit(mode);
    if (await pathExists(unit)) {
      throw new GinnelError("ERR_SERVICE_INSTALLED", `${unit} is there already`, {
        hint: `Run ginnel service uninstall --mode ${mode} first`,
      });
    }
    const home = this.#home(mode);
    if (await pathExists(home)) {
      throw new GinnelError("ERR_SERVICE_INSTALLED", `${home} is there already`, {
        hint:
          `It is kept from an earlier installation. Move it away, or run ginnel service uninstall --mode ${mode} --purge`,
      });
    }
    // systemd's own folder for the state of users that come and go.
    await Deno.mkdir(this.#at("var/lib/private"), { recursive: true, mode: 0o700 });
    await Deno.mkdir(home, { mode: 0o700 });
    try {
      await fillHome(home, { path: options.config, config });
      const text = renderUnit({ mode, program: options.program, needs: needsOf(config) });
      await Deno.mkdir(this.#at("etc/systemd/system"), { recursive: true });
      await Deno.writeTextFile(unit, text, { createNew: true, mode: 0o644 });
    } catch (error) {
      await Deno.remove(home, { recursive: true });
      throw error;
    }
    await this.#systemctl("daemon-reload");
    if (options.now) await this.#systemctl("enable", "--now", `${unitName(mode)}.service`);
    return { mode, unit, home };
  }

  /** The modes that are installed here, or whose folders are left. */
  async installed(): Promise<Config["mode"][]> {
    const modes: Config["mode"][] = ["agent", "connector", "relay", "controller"];
    const there = await Promise.all(
      modes.map(async (mode) => await pathExists(this.#unit(mode)) || await pathExists(this.#home(mode))),
    );
    return modes.filter((_, index) => there[index]);
  }

  /** Stops a node and takes away all that it left; returns the folder that was kept, if it was. */
  async uninstall(mode: Config["mode"], { purge }: { readonly purge: boolean }): Promise<string | undefined> {
    const name = unitName(mode);
    if (await pathExists(this.#unit(mode))) {
      await this.#systemctl("disable", "--now", `${name}.service`);
      await Deno.remove(this.#unit(mode));
      await this.#systemctl("daemon-reload");
      await this.#systemctl("reset-failed", `${name}.service`);
      await this.#undoLeftovers(mode);
    }
    const isKept = PRECIOUS.has(mode) && !purge && await pathExists(this.#home(mode));
    await removeAll([
      this.#at(`run/ginnel/${mode}`),
      this.#at(`var/cache/${name}`),
      this.#at(`var/cache/private/${name}`),
      ...(isKept ? [] : [this.#at(`var/lib/${name}`), this.#home(mode)]),
    ]);
    await removeEmpty([
      this.#at("run/ginnel"),
      this.#at("var/cache/private"),
      this.#at("var/lib/private"),
    ]);
    return isKept ? this.#home(mode) : undefined;
  }

  #at(path: string): string {
    return join(this.#root, path);
  }

  #unit(mode: Config["mode"]): string {
    return this.#at(`etc/systemd/system/${unitName(mode)}.service`);
  }

  #home(mode: Config["mode"]): string {
    return this.#at(`var/lib/private/${unitName(mode)}`);
  }

  /** Its own end has undone what it set up in the machine's network, unless it was killed. */
  async #undoLeftovers(mode: Config["mode"]): Promise<void> {
    const path = join(this.#home(mode), "config.json");
    if (this.#root !== "/" || !await pathExists(path)) return;
    const directory = this.#at(`run/ginnel/${mode}`);
    // systemd has removed the folder of a node that it stopped.
    await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
    await undoLeftovers(await loadConfig(path), { directory });
  }

  async #systemctl(...args: string[]): Promise<void> {
    // A root elsewhere is an image: no systemd runs there.
    if (this.#root !== "/") return;
    let output: Deno.CommandOutput;
    try {
      output = await new Deno.Command("systemctl", { args, stdin: "null", stdout: "null", stderr: "piped" })
        .output();
    } catch (cause) {
      throw new GinnelError("ERR_SYSTEMD", "Cannot run systemctl", {
        cause,
        hint: "This machine needs systemd for it",
      });
    }
    // Nothing had failed: then there is nothing to reset.
    if (output.success || args[0] === "reset-failed") return;
    const text = new TextDecoder().decode(output.stderr).trim();
    throw new GinnelError("ERR_SYSTEMD", `systemctl ${args.join(" ")} failed: ${text.slice(0, 500)}`, {
      hint: "Run it as root; journalctl -u says why a unit does not start",
    });
  }
}

async function removeAll(paths: readonly string[]): Promise<void> {
  for (const path of paths) if (await pathExists(path)) await Deno.remove(path, { recursive: true });
}

/** Removes folders that nobody else uses. */
async function removeEmpty(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    if (!await pathExists(path)) continue;
    const { done } = await Deno.readDir(path)[Symbol.asyncIterator]().next();
    if (done === true) await Deno.remove(path);
  }
}
