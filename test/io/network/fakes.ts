/** Stand-ins for the kernel: programs that answer from the test, files in memory, loggers that listen. */

import { createLogger, type Logger, SILENT_LOGGER } from "../../../src/base/log.ts";
import type { CommandResult, Commands, ProgramName } from "../../../src/io/network/commands.ts";
import type { NetworkContext } from "../../../src/io/network/context.ts";
import { NetworkJournal } from "../../../src/io/network/journal.ts";
import { type KernelFiles, SYSTEM_FILES } from "../../../src/io/network/libc.ts";
import { TUNNEL } from "./values.ts";

/** What a stand-in for the programs does. */
export type Answer = (
  program: ProgramName,
  args: readonly string[],
  stdin?: string,
) => Partial<CommandResult>;

/** A context of stand-ins with a real journal, and what its programs were asked. */
export interface FakeContext extends AsyncDisposable {
  readonly context: NetworkContext;
  readonly calls: string[];
}

/** Makes one whose journal lies in `directory`. */
export async function fakeContext(
  directory: string,
  options: { readonly answer?: Answer; readonly files?: KernelFiles; readonly logger?: Logger } = {},
): Promise<FakeContext> {
  const { answer, files = fakeFiles({}), logger = SILENT_LOGGER } = options;
  const journal = await NetworkJournal.open(TUNNEL, { logger, directory, files: SYSTEM_FILES });
  const { commands, calls } = fakeCommands(answer);
  return {
    context: { logger, commands, files, journal },
    calls,
    [Symbol.asyncDispose]: () => journal[Symbol.asyncDispose](),
  };
}

/** Programs that answer by `answer`, by default nothing and with success. */
export function fakeCommands(answer: Answer = () => ({})): { commands: Commands; calls: string[] } {
  const calls: string[] = [];
  const commands: Commands = {
    run: (program, args, stdin) => {
      calls.push([program, ...args, ...(stdin === undefined ? [] : [`<${stdin}`])].join(" "));
      return Promise.resolve({ code: 0, stdout: "", stderr: "", ...answer(program, args, stdin) });
    },
  };
  return { commands, calls };
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
  const logger = createLogger({ level: "debug", write: (line) => events.push(JSON.parse(line).event) });
  return { logger, events };
}

/** A folder that is removed with everything in it. */
export async function scratch(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir({ prefix: "ginnel-network-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}
