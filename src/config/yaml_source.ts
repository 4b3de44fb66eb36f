/** YAML 1.2 with the place of every value. Unknown tags, repeated keys and several documents are faults. */

import { isMap, isNode, isScalar, isSeq, parseDocument } from "yaml";
import { errorMessage } from "../base/errors.ts";
import { SourceFault, type SourceNode, type SourceText } from "./source_text.ts";

/** How often anchors may be repeated: enough for people, too little to blow a small file up. */
const MAX_ALIASES = 100;

/** Reads a whole YAML text; throws `SourceFault`. */
export function parseYamlSource(text: string): SourceText {
  const document = parseDocument(text, { prettyErrors: false, uniqueKeys: true, logLevel: "error" });
  const fault = document.errors[0] ?? document.warnings[0];
  if (fault !== undefined) {
    const message = MESSAGES[fault.code] ??
      `${fault.message.charAt(0).toLowerCase()}${fault.message.slice(1)}`;
    throw new SourceFault(message, fault.pos[0]);
  }
  if (document.contents === null || (isScalar(document.contents) && document.contents.value === null)) {
    throw new SourceFault("the file is empty", 0);
  }
  try {
    return {
      text,
      value: document.toJS({ maxAliasCount: MAX_ALIASES }),
      root: toSourceNode(document.contents),
    };
  } catch (error) {
    throw new SourceFault(errorMessage(error), 0);
  }
}

const MESSAGES: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: "this field is given twice",
  MULTIPLE_DOCS: "one file holds one document: remove what follows ---",
};

function toSourceNode(node: unknown): SourceNode {
  const offset = isNode(node) ? node.range?.[0] ?? 0 : 0;
  if (isMap(node)) {
    const entries = new Map<string, { keyOffset: number; node: SourceNode }>();
    for (const { key, value } of node.items) {
      const name = isScalar(key) ? String(key.value) : String(key);
      const keyOffset = isNode(key) ? key.range?.[0] ?? offset : offset;
      // `key:` without a value has no node: its fault is shown at the key.
      entries.set(name, { keyOffset, node: value === null ? { offset: keyOffset } : toSourceNode(value) });
    }
    return { offset, entries };
  }
  if (isSeq(node)) return { offset, items: node.items.map(toSourceNode) };
  // An alias is not followed: what is wrong behind it is shown where it is used.
  return { offset };
}
