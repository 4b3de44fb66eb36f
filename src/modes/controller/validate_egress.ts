/** Judges egress policies that come through the API by the rules for egress policy files. */

import { ConfigError } from "../../config/errors.ts";
import { parseEgress } from "../../config/egress_file.ts";
import type { FieldProblem } from "../../core/network/administration.ts";

/** What is wrong with a document, by its own fields; nothing when it can be put in force. */
export function validateEgress(document: Readonly<Record<string, unknown>>): readonly FieldProblem[] {
  try {
    parseEgress([{ file: "document.json", text: JSON.stringify(document) }]);
    return [];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.problems.map(({ field, message }) => ({ field, message }));
  }
}
