/**
 * For tests of the network set-up: a namespace that this thread enters, so that the real commands and files act in
 * it, and pictures of everything that could be left behind.
 */

import assert from "node:assert/strict";
import { createLogger, type Logger, SILENT_LOGGER } from "../../../src/base/log.ts";
import { type IpAddress, type IpPrefix, parseIp, parsePrefix } from "../../../src/base/ip.ts";
import type { CommandResult, Commands, ProgramName } from "../../../src/io/network/commands.ts";
import { systemCommands } from "../../../src/io/network/commands.ts";
import type { NetworkContext } from "../../../src/io/network/context.ts";
import { HostNetwork, type HostNetworkOptions } from "../../../src/io/network/host_network.ts";
import { NetworkJournal } from "../../../src/io/network/journal.ts";
import { type KernelFiles, SYSTEM_FILES } from "../../../src/io/network/libc.ts";
import { Network } from "../../support/namespaces.ts";
import { runCommand } from "../../support/processes.ts";
import { needsNetworkNamespaces, needsTool } from "../../support/require_tool.ts";

/** What tests in a namespace need. */
export const NEEDS = [needsNetworkNamespaces(), needsTool("nft")];

/** The tunnel interface of every test here. */
export const TUNNEL = "ginnel7";

/** The gateway of the test network; the interface `eth0` has 10.77.0.1/24 and fd77::1/64. */
export const GATEWAY = "10.77.0.2";
export const GATEWAY6 = "fd77::2";

/** A namespace with a way out and a tunnel interface that outlives its users. */
export interface Ground {
  readonly directory: string;
  readonly resolvConf: string;
  /** The command line that runs `command` inside. */
  command(command: readonly string[]): string[];
  /** Everything that could be left behind. */
  picture(): Promise<string>;
  /** Opens the set-up of {@linkcode TUNNEL}. */
  open(options?: Partial<HostNetworkOptions>): Promise<HostNetwork>;
}

/** Runs `body` with this thread inside a new namespace. */
export async function onGround(body: (ground: Ground) => Promise<void>): Promise<void> {
  await using network = await Network.create(["near", "far"]);
  const near = network.host("near");
  const directory = await Deno.makeTempDir({ prefix: "ginnel-network-" });
  const resolvConf = `${directory}/resolv.conf`;
  await Deno.writeTextFile(resolvConf, "# somebody's own\nnameserver 10.77.0.2\n");
  const ip = (line: string) => runCommand(near.command(["ip", ...line.split(" ")]));
  await ip(`addr add fd77::1/64 dev eth0 nodad`);
  await ip(`route add default via ${GATEWAY} dev eth0`);
  await ip(`route add default via ${GATEWAY6} dev eth0`);
  await ip(`tuntap add dev ${TUNNEL} mode tun`);
  const picture = async () => {
    const script = "ip -d route show table all; ip -6 -d route show table all; ip rule; ip -d addr; " +
      "nft list ruleset; sysctl -a 2>/dev/null | grep -E '^net.ipv[46].(ip_forward|conf)' | grep -v stable_secret";
    const text = await runCommand(near.command(["sh", "-c", script]));
    // What changes by itself: leases' times, and the queue that a link gets when it first comes up.
    const kernel = text.replace(/ (valid_lft|preferred_lft|qdisc) \S+| expires \S+/g, "");
    const files: string[] = [];
    for await (const { name } of Deno.readDir(directory)) files.push(name);
    const names = files.filter((name) => !name.startsWith("network-")).toSorted();
    return `${kernel}\n${await Deno.readTextFile(resolvConf)}\n${names}`;
  };
  const open = (options: Partial<HostNetworkOptions> = {}) =>
    HostNetwork.open(TUNNEL, { logger: SILENT_LOGGER, directory, resolvConf, ...options });
  try {
    // Link-local addresses come by themselves, a moment after a link is up.
    await settled(picture);
    using _inside = enter(`/run/netns/${near.namespace}`);
    await body({ directory, resolvConf, command: (command) => near.command(command), picture, open });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Fails with the lines, and only those, by which two pictures differ. */
export function assertSame(now: string, before: string): void {
  const [is, was] = [now, before].map((text) => text.split("\n").toSorted()) as [string[], string[]];
  const more = is.filter((line) => !was.includes(line));
  const less = was.filter((line) => !is.includes(line));
  assert.deepEqual({ more, less, count: is.length }, { more: [], less: [], count: was.length });
}

/** Runs a shell command inside the ground. */
export function inside(ground: Ground, script: string): Promise<string> {
  return runCommand(ground.command(["sh", "-c", script]));
}

/** A context whose programs answer by `answer`, and what it was asked to run. */
export async function fakeContext(
  directory: string,
  options: {
    readonly answer?: (
      program: ProgramName,
      args: readonly string[],
      stdin?: string,
    ) => Partial<CommandResult>;
    readonly files?: KernelFiles;
    readonly logger?: Logger;
  } = {},
): Promise<{ context: NetworkContext; calls: string[] } & AsyncDisposable> {
  const { answer = () => ({}), files = fakeFiles({}), logger = SILENT_LOGGER } = options;
  const calls: string[] = [];
  const commands: Commands = {
    run: (program, args, stdin) => {
      calls.push([program, ...args, ...(stdin === undefined ? [] : [`<${stdin}`])].join(" "));
      return Promise.resolve({ code: 0, stdout: "", stderr: "", ...answer(program, args, stdin) });
    },
  };
  const journal = await NetworkJournal.open(TUNNEL, { logger, directory, files: SYSTEM_FILES });
  return {
    context: { logger, commands, files, journal },
    calls,
    [Symbol.asyncDispose]: () => journal[Symbol.asyncDispose](),
  };
}

/** Kernel files in memory; writing to a path in `refused` fails as a read-only /proc/sys does. */
export function fakeFiles(
  initial: Readonly<Record<string, string>>,
  refused: readonly string[] = [],
): KernelFiles & { readonly content: Map<string, string> } {
  const content = new Map(Object.entries(initial));
  return {
    content,
    read: (path) => content.get(path),
    write: (path, text) => {
      if (refused.includes(path)) throw new Error(`Cannot write ${path}: Read-only file system`);
      content.set(path, text);
    },
    readLink: () => "net:[1]",
  };
}

/** A logger that keeps the names of its events. */
export function listeningLogger(): { readonly logger: Logger; readonly events: string[] } {
  const events: string[] = [];
  const logger = createLogger({ level: "trace", write: (line) => events.push(JSON.parse(line).event) });
  return { logger, events };
}

/** The real programs, each run counted. */
export function countedCommands(): { readonly commands: Commands; readonly writes: string[] } {
  const real = systemCommands();
  const writes: string[] = [];
  return {
    writes,
    commands: {
      run: (program, args, stdin) => {
        if (stdin !== undefined) writes.push(`${program} ${args.join(" ")} <${stdin}`);
        return real.run(program, args, stdin);
      },
    },
  };
}

/** An address that is known to be one. */
export function ip(text: string): IpAddress {
  const address = parseIp(text);
  if (address === undefined) throw new SyntaxError(`Cannot read ${text}`);
  return address;
}

/** A prefix that is known to be one. */
export function prefix(text: string): IpPrefix {
  const found = parsePrefix(text);
  if (found === undefined) throw new SyntaxError(`Cannot read ${text}`);
  return found;
}

/** Waits until the picture is the same twice. */
async function settled(picture: () => Promise<string>): Promise<void> {
  for (let before = "", now = await picture(); before !== now || now.includes("tentative");) {
    [before, now] = [now, await picture()];
  }
}

const CLONE_NEWNET = 0x4000_0000;

/** Moves this thread, and whatever it starts, into a network namespace; disposing moves it back. */
function enter(path: string): Disposable {
  const libc = Deno.dlopen("libc.so.6", {
    open: { parameters: ["buffer", "i32"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    setns: { parameters: ["i32", "i32"], result: "i32" },
  });
  const descriptor = (name: string) => {
    const fd = libc.symbols.open(new TextEncoder().encode(`${name}\0`), 0o2000000);
    if (fd < 0) throw new Error(`Cannot open ${name}`);
    return fd;
  };
  const move = (fd: number) => {
    if (libc.symbols.setns(fd, CLONE_NEWNET) !== 0) throw new Error("Cannot change the namespace");
  };
  const home = descriptor("/proc/thread-self/ns/net");
  const there = descriptor(path);
  move(there);
  return {
    [Symbol.dispose]: () => {
      move(home);
      libc.symbols.close(home);
      libc.symbols.close(there);
      libc.close();
    },
  };
}
