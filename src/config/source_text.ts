/**
 * A config or policy text together with the place of everything in it, so that a fault found in the values can be
 * shown as line and column.
 */

/** Where one value stands in the text, and where the values inside it do. Offsets count UTF-16 units. */
export interface SourceNode {
  readonly offset: number;
  readonly entries?: ReadonlyMap<string, { readonly keyOffset: number; readonly node: SourceNode }>;
  readonly items?: readonly SourceNode[];
}

/** A text that was read without a syntax fault. */
export interface SourceText {
  readonly text: string;
  readonly value: unknown;
  readonly root: SourceNode;
}

/** The text is not JSON or YAML; `offset` is where it stops being so. */
export class SourceFault extends SyntaxError {
  readonly offset: number;

  constructor(message: string, offset: number) {
    super(message);
    this.name = "SourceFault";
    this.offset = offset;
  }
}

/** 1-based place in a text. */
export interface Place {
  readonly line: number;
  readonly column: number;
}

/** Finds a value's offset, or that of the innermost value around it which is there. */
export function locateValue(root: SourceNode, path: readonly PropertyKey[]): number {
  let node = root;
  for (const key of path) {
    const next = typeof key === "number" ? node.items?.[key] : node.entries?.get(String(key))?.node;
    if (next === undefined) break;
    node = next;
  }
  return node.offset;
}

/** Finds the offset of the key that ends `path`. */
export function locateKey(root: SourceNode, path: readonly PropertyKey[]): number {
  let node: SourceNode | undefined = root;
  for (const key of path.slice(0, -1)) {
    node = typeof key === "number" ? node?.items?.[key] : node?.entries?.get(String(key))?.node;
  }
  return node?.entries?.get(String(path.at(-1)))?.keyOffset ?? locateValue(root, path);
}

/** Turns an offset into line and column. */
export function placeOf(text: string, offset: number): Place {
  const before = text.slice(0, offset);
  const line = before.split("\n").length;
  return { line, column: offset - (before.lastIndexOf("\n") + 1) + 1 };
}
