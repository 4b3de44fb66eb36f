/**
 * Structured logging: one JSON object per line. Secrets never enter a field; addresses, domains and
 * user names go to `debug` or below (the audit log is the place for who did what).
 */

import { utf8 } from "./bytes.ts";

/** Severities, least to most urgent. */
export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error"] as const;

/** One of {@linkcode LOG_LEVELS}. */
export type LogLevel = typeof LOG_LEVELS[number];

/** Values a log line may carry. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Writes structured events; `event` is a stable snake_case name, the rest are fields. */
export interface Logger {
  trace(event: string, fields?: LogFields): void;
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  /** A logger whose lines also carry `fields`. */
  with(fields: LogFields): Logger;
}

/** Where and how much to log. */
export interface LoggerOptions {
  /** Lines below this level are dropped; default "info". */
  readonly level?: LogLevel;
  /** Receives each finished line, newline included; default writes to standard output. */
  readonly write?: (line: string) => void;
  /** Milliseconds since the epoch; default `Date.now`. */
  readonly now?: () => number;
  /** Fields on every line. */
  readonly fields?: LogFields;
}

/** Makes a {@linkcode Logger} that prints one JSON object per line. */
export function createLogger(options: LoggerOptions = {}): Logger {
  const { level = "info", write = writeStdout, now = Date.now, fields: base = {} } = options;
  const threshold = LOG_LEVELS.indexOf(level);
  const emit = (severity: LogLevel, event: string, fields?: LogFields) => {
    if (LOG_LEVELS.indexOf(severity) < threshold) return;
    const time = new Date(now()).toISOString();
    write(JSON.stringify({ time, level: severity, event, ...base, ...fields }) + "\n");
  };
  return {
    trace: (event, fields) => emit("trace", event, fields),
    debug: (event, fields) => emit("debug", event, fields),
    info: (event, fields) => emit("info", event, fields),
    warn: (event, fields) => emit("warn", event, fields),
    error: (event, fields) => emit("error", event, fields),
    with: (fields) => createLogger({ level, write, now, fields: { ...base, ...fields } }),
  };
}

/** A logger that says nothing. */
export const SILENT_LOGGER: Logger = createLogger({ write: () => {} });

function writeStdout(line: string): void {
  const bytes = utf8(line);
  let offset = 0;
  while (offset < bytes.length) offset += Deno.stdout.writeSync(bytes.subarray(offset));
}
