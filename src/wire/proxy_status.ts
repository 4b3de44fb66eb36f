/**
 * The Proxy-Status field (RFC 9209), by which a relay says why it refused: a list of intermediaries, each with
 * parameters, in the syntax of structured fields (RFC 9651 §3). We send one member and read any number.
 */

/** One intermediary's account of a response. */
export interface ProxyStatus {
  /** Who speaks. */
  readonly proxy: string;
  /** A proxy error type, such as those of RFC 9209 §2.3. */
  readonly error?: string;
  /** More about it, for people. */
  readonly details?: string;
}

/** The longest field read, in characters; real ones stay far below. */
const MAX_LENGTH = 4096;
/** The longest details sent. */
const MAX_DETAILS = 256;

const TOKEN = /[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*/y;
const KEY = /[a-z*][a-z0-9_.*-]*/y;
const STRING = /"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"/y;
/** Integer or decimal, date, byte sequence, boolean, display string: read past, never used. */
const OTHER_ITEM =
  /@-?\d{1,15}|-?\d{1,12}\.\d{1,3}|-?\d{1,15}(?![.\d])|:[A-Za-z0-9+/]*={0,2}:|\?[01]|%"(?:[\x20\x21\x23\x24\x26-\x7e]|%[0-9a-f]{2})*"/y;

/** Writes the field; throws `RangeError` where `error` is no token. Other characters than ASCII become `?`. */
export function encodeProxyStatus({ proxy, error, details }: ProxyStatus): string {
  let field = isToken(proxy) ? proxy : quote(proxy);
  if (error !== undefined) {
    if (!isToken(error)) {
      throw new RangeError(`Cannot encode proxy error ${JSON.stringify(error)}: not a token`);
    }
    field += `; error=${error}`;
  }
  if (details !== undefined) field += `; details=${quote(details.slice(0, MAX_DETAILS))}`;
  return field;
}

/**
 * Reads the field and returns the member that explains the refusal: the first with an error, which is the
 * intermediary closest to the service, else the first of all. A malformed field says nothing: `undefined`.
 */
export function parseProxyStatus(value: string): ProxyStatus | undefined {
  if (value.length > MAX_LENGTH) return undefined;
  // RFC 9651 §4.2: a field that fails to parse is ignored as a whole.
  const members = new FieldParser(value).parse();
  return members?.find(({ error }) => error !== undefined) ?? members?.[0];
}

/** RFC 9651 §4.2.1, for lists whose members are tokens or strings with parameters. */
class FieldParser {
  readonly #text: string;
  #offset = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): ProxyStatus[] | undefined {
    const members: ProxyStatus[] = [];
    this.#take(/ */y);
    while (this.#offset < this.#text.length) {
      const member = this.#member();
      if (member === undefined) return undefined;
      members.push(member);
      this.#take(/[ \t]*/y);
      if (this.#offset === this.#text.length) return members;
      if (this.#take(/,[ \t]*/y) === undefined) return undefined;
    }
    return undefined;
  }

  #member(): ProxyStatus | undefined {
    const proxy = this.#textItem();
    if (proxy === undefined) return undefined;
    const known = new Map<string, string | undefined>();
    while (this.#take(/; */y) !== undefined) {
      const key = this.#take(KEY);
      if (key === undefined) return undefined;
      const hasValue = this.#take(/=/y) !== undefined;
      const text = hasValue ? this.#textItem() : undefined;
      if (hasValue && text === undefined && this.#take(OTHER_ITEM) === undefined) return undefined;
      // RFC 9651 §3.1.2: of parameters with the same key, the last counts.
      known.set(key, text);
    }
    const error = known.get("error");
    const details = known.get("details");
    return {
      proxy,
      ...(error === undefined ? {} : { error }),
      ...(details === undefined ? {} : { details }),
    };
  }

  #textItem(): string | undefined {
    const token = this.#take(TOKEN);
    if (token !== undefined) return token;
    return this.#take(STRING)?.slice(1, -1).replace(/\\(.)/g, "$1");
  }

  /** Moves past what `pattern` (sticky) matches here, and returns it. */
  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#offset;
    const match = pattern.exec(this.#text)?.[0];
    if (match !== undefined) this.#offset += match.length;
    return match;
  }
}

function isToken(text: string): boolean {
  TOKEN.lastIndex = 0;
  return TOKEN.exec(text)?.[0] === text;
}

function quote(text: string): string {
  return `"${text.replace(/[^\x20-\x7e]/g, "?").replace(/["\\]/g, "\\$&")}"`;
}
