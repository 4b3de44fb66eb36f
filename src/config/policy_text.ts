/** Reads the files of a policy, service or egress, as YAML or JSON: what is wrong in each becomes a problem among all. */

import { ConfigError, type ConfigProblem } from "./errors.ts";
import { parseJsonSource } from "./json_source.ts";
import { readTextFile } from "./read_text_file.ts";
import { placeOf, SourceFault, type SourceText } from "./source_text.ts";
import { parseYamlSource } from "./yaml_source.ts";

/** The text of one policy file. */
export interface PolicyText {
  readonly file: string;
  readonly text: string;
}

/** Bytes of the largest policy file that is read: 10,000 identities take about 1 MB. */
const MAX_POLICY_BYTES = 32 * 1024 * 1024;

/** Reads files; those that cannot be read are problems. */
export async function readPolicyTexts(
  paths: readonly string[],
): Promise<{ readonly texts: readonly PolicyText[]; readonly problems: readonly ConfigProblem[] }> {
  const texts: PolicyText[] = [];
  const problems: ConfigProblem[] = [];
  for (const file of paths) {
    try {
      const text = await readTextFile(file, { code: "ERR_POLICY", maxBytes: MAX_POLICY_BYTES });
      texts.push({ file, text });
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      problems.push(...error.problems);
    }
  }
  return { texts, problems };
}

/** Reads a text as its file's name says; undefined, with a problem added, when it is no such text. */
export function parsePolicyText(
  { file, text }: PolicyText,
  problems: ConfigProblem[],
): SourceText | undefined {
  const format = file.endsWith(".json") ? "JSON" : "YAML";
  try {
    return format === "JSON" ? parseJsonSource(text) : parseYamlSource(text);
  } catch (error) {
    if (!(error instanceof SourceFault)) throw error;
    const message = `not ${format}: ${error.message}`;
    problems.push({ file, ...placeOf(text, error.offset), field: "", message });
    return undefined;
  }
}
