/**
 * Strict JSON (RFC 8259) with the place of every value. `JSON.parse` tells neither where a value stands nor that a
 * key was given twice, and its error messages repeat the text, which may hold secrets.
 */

import { SourceFault, type SourceNode, type SourceText } from "./source_text.ts";

/** Deepest nesting that is read: more is a mistake, and recursion must end. */
export const MAX_JSON_DEPTH = 64;

/** Reads a whole JSON text; throws `SourceFault`. */
export function parseJsonSource(text: string): SourceText {
  const reader = new JsonReader(text.startsWith("\uFEFF") ? ` ${text.slice(1)}` : text);
  const { value, node } = reader.readText();
  return { text, value, root: node };
}

interface Read {
  readonly value: unknown;
  readonly node: SourceNode;
}

const SPACE = /[ \t\r\n]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
// deno-lint-ignore no-control-regex -- JSON forbids raw control characters in strings
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const WORD = /[A-Za-z_$][A-Za-z0-9_$]*/y;
const WORDS: Readonly<Record<string, unknown>> = { true: true, false: false, null: null };

class JsonReader {
  readonly #text: string;
  #offset = 0;

  constructor(text: string) {
    this.#text = text;
  }

  readText(): Read {
    this.#take(SPACE);
    if (this.#offset === this.#text.length) throw this.#fault("the file is empty");
    const read = this.#readValue(0);
    this.#take(SPACE);
    if (this.#offset !== this.#text.length) {
      throw this.#fault("there is more after the end of the JSON value");
    }
    return read;
  }

  #readValue(depth: number): Read {
    if (depth > MAX_JSON_DEPTH) throw this.#fault(`nested more than ${MAX_JSON_DEPTH} deep`);
    const offset = this.#offset;
    const first = this.#text[offset];
    if (first === "{") return this.#readObject(depth);
    if (first === "[") return this.#readArray(depth);
    if (first === '"') return { value: this.#readString(), node: { offset } };
    const number = this.#take(NUMBER);
    if (number !== "") {
      const value = Number(number);
      if (!Number.isFinite(value)) throw this.#fault("the number is too large", offset);
      return { value, node: { offset } };
    }
    const word = this.#take(WORD);
    if (Object.hasOwn(WORDS, word)) return { value: WORDS[word], node: { offset } };
    throw this.#fault(word === "" ? this.#unexpected("a value") : "text must stand in double quotes", offset);
  }

  #readObject(depth: number): Read {
    const offset = this.#offset++;
    const value: Record<string, unknown> = {};
    const entries = new Map<string, { keyOffset: number; node: SourceNode }>();
    this.#take(SPACE);
    if (this.#skip("}")) return { value, node: { offset, entries } };
    while (true) {
      this.#take(SPACE);
      const keyOffset = this.#offset;
      if (this.#text[keyOffset] !== '"') throw this.#fault(this.#unexpected("a field name in double quotes"));
      const key = this.#readString();
      if (entries.has(key)) throw this.#fault(`field ${JSON.stringify(key)} is given twice`, keyOffset);
      this.#take(SPACE);
      if (!this.#skip(":")) throw this.#fault(this.#unexpected(`: after field ${JSON.stringify(key)}`));
      this.#take(SPACE);
      const read = this.#readValue(depth + 1);
      // Not by assignment: that would make "__proto__" vanish instead of being an unknown field.
      Object.defineProperty(value, key, {
        value: read.value,
        enumerable: true,
        writable: true,
        configurable: true,
      });
      entries.set(key, { keyOffset, node: read.node });
      this.#take(SPACE);
      if (this.#skip("}")) return { value, node: { offset, entries } };
      if (!this.#skip(",")) throw this.#fault(this.#unexpected(", or }"));
    }
  }

  #readArray(depth: number): Read {
    const offset = this.#offset++;
    const value: unknown[] = [];
    const items: SourceNode[] = [];
    this.#take(SPACE);
    if (this.#skip("]")) return { value, node: { offset, items } };
    while (true) {
      this.#take(SPACE);
      const read = this.#readValue(depth + 1);
      value.push(read.value);
      items.push(read.node);
      this.#take(SPACE);
      if (this.#skip("]")) return { value, node: { offset, items } };
      if (!this.#skip(",")) throw this.#fault(this.#unexpected(", or ]"));
    }
  }

  #readString(): string {
    const quoted = this.#take(STRING);
    if (quoted === "") {
      throw this.#fault(
        "the text in double quotes does not end, or holds a wrong escape or a raw line break",
      );
    }
    return JSON.parse(quoted);
  }

  #unexpected(wanted: string): string {
    const found = this.#text[this.#offset];
    if (found === undefined) return `the text ends where ${wanted} is expected`;
    if (found === "/" || found === "#") return "JSON has no comments";
    if (found === "}" || found === "]") return `expected ${wanted}; JSON has no comma before ${found}`;
    return `expected ${wanted}`;
  }

  #take(pattern: RegExp): string {
    pattern.lastIndex = this.#offset;
    const taken = pattern.exec(this.#text)?.[0] ?? "";
    this.#offset += taken.length;
    return taken;
  }

  #skip(character: string): boolean {
    if (this.#text[this.#offset] !== character) return false;
    this.#offset++;
    return true;
  }

  #fault(message: string, offset = this.#offset): SourceFault {
    return new SourceFault(message, offset);
  }
}
