/**
 * `ginnel ca`: the offline certificate authority on the command line.
 */

/** Where a command prints; the callbacks take whole texts, newline included. */
export interface CommandIo {
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
  readonly isTerminal: boolean;
}

/** Runs `ginnel ca ...` and returns the exit code. */
export function caCommand(_args: string[], _io: CommandIo): Promise<number> {
  return Promise.reject(new Error("Not written yet"));
}
