/** A folder with a whole network's files, for the tests of commands. */

import { join } from "node:path";
import type { CommandIo } from "../../src/cli/ca.ts";
import { type DemoNetwork, writeDemoNetwork } from "../../src/cli/dev/demo_network.ts";

/** The folder and the paths of its configs. */
export interface DemoFolder extends DemoNetwork {
  readonly folder: string;
}

/** Writes a demo network whose nodes would use free ports. */
export async function makeDemoFolder(): Promise<DemoFolder> {
  const folder = await Deno.makeTempDir();
  const [relay, health, forward, socks5] = freePorts(4);
  const network = await writeDemoNetwork(folder, {
    relay: relay!,
    health: health!,
    forward: forward!,
    socks5: socks5!,
  });
  return { folder, ...network };
}

/** Changes one member of a JSON file. */
export async function editJson(
  path: string,
  change: (value: Record<string, unknown>) => void,
): Promise<void> {
  const value = JSON.parse(await Deno.readTextFile(path));
  change(value);
  await Deno.writeTextFile(path, JSON.stringify(value));
}

/** Collects what a command prints. */
export class Printed implements CommandIo {
  out = "";
  err = "";
  readonly isTerminal: boolean;
  readonly stdout: (text: string) => void = (text) => void (this.out += text);
  readonly stderr: (text: string) => void = (text) => void (this.err += text);

  constructor(isTerminal = false) {
    this.isTerminal = isTerminal;
  }
}

/** A file's path in the demo folder. */
export function fileOf(demo: DemoFolder, name: string): string {
  return join(demo.folder, name);
}

function freePorts(count: number): number[] {
  const listeners = Array.from({ length: count }, () => Deno.listen({ hostname: "127.0.0.1", port: 0 }));
  const ports = listeners.map((listener) => listener.addr.port);
  listeners.forEach((listener) => listener.close());
  return ports;
}
