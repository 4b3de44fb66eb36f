/**
 * The one base of all domain errors. A subclass or instance carries a literal `code` that tests and
 * programs switch on; `hint` tells a person what to do next.
 */

/** Extra data of a {@linkcode GinnelError}. */
export interface GinnelErrorOptions extends ErrorOptions {
  /** What the reader should do next, as one imperative sentence. */
  readonly hint?: string;
}

/** A failure that Ginnel foresees: it names what is wrong and what to do about it. */
export class GinnelError extends Error {
  readonly code: string;
  readonly hint: string | undefined;

  constructor(code: `ERR_${string}`, message: string, options: GinnelErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = options.hint;
  }
}

/** How much of a connection a protocol violation takes down. */
export type ProtocolScope = "stream" | "connection";

/** A peer broke a protocol: `wireCode` is the RFC's error code, `scope` what it ends. */
export class ProtocolError extends GinnelError {
  readonly wireCode: number;
  readonly scope: ProtocolScope;

  constructor(scope: ProtocolScope, wireCode: number, message: string, options: GinnelErrorOptions = {}) {
    super("ERR_PROTOCOL", message, options);
    this.scope = scope;
    this.wireCode = wireCode;
  }
}

/** Returns the code of any thrown value, for logs: a domain code, an error's name, or "unknown". */
export function errorCode(error: unknown): string {
  if (error instanceof GinnelError) return error.code;
  if (error instanceof Error) return error.name;
  return "unknown";
}

/** Returns the message of any thrown value. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
