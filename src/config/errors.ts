/** Config and policy mistakes, each naming file, place, field and value. */

import { GinnelError } from "../base/errors.ts";

/** One thing wrong in one file. */
export interface ConfigProblem {
  readonly file: string;
  /** 1-based; absent when the fault has no place in the text. */
  readonly line?: number;
  /** 1-based. */
  readonly column?: number;
  /** Field path such as `services[0].upstream`; empty for the whole file. */
  readonly field: string;
  /** The value found, shortened for print; absent when missing or possibly secret. */
  readonly value?: string;
  /** What is wrong and what would be right, as one phrase. */
  readonly message: string;
}

/** Which kind of file is at fault. */
export type ConfigErrorCode = "ERR_CONFIG" | "ERR_POLICY";

/** All the problems found in a config or in policy files; the message has one line for each. */
export class ConfigError extends GinnelError {
  readonly problems: readonly ConfigProblem[];

  constructor(code: ConfigErrorCode, problems: readonly ConfigProblem[], options: ErrorOptions = {}) {
    super(code, problems.map(formatProblem).join("\n"), options);
    this.problems = problems;
  }
}

/** Writes `file:line:column: field: value: message`, leaving out what is not known. */
function formatProblem(problem: ConfigProblem): string {
  const place = problem.line === undefined
    ? problem.file
    : `${problem.file}:${problem.line}:${problem.column}`;
  const subject = [problem.field, problem.value].filter((part) => part !== undefined && part !== "").join(
    " = ",
  );
  return `${place}: ${subject === "" ? "" : `${subject}: `}${problem.message}`;
}
