/** RFC citations: one form, no drafts, and for every cited MUST a test that names it. */

import type { Rule } from "../rule.ts";
import type { SourceTree } from "../source_tree.ts";

/** A MUST without a test of its own, and why: `{"RFC9114-7.2.8": "…"}`. */
export const EXCEPTIONS_FILE = "test/arch/spec_exceptions.json";

/** `// RFC 9114 §7.2.8: why the branch is there`; several sections may stand before the colon. */
const CITATION = /^ (RFC \d+ §[^:]+): \S/;

/** `[RFC9114-7.2.8]` in a test's name; one name may carry several. */
const TAG = /\[(RFC\d+-[0-9A-Z]+(?:\.\d+)*)\]/g;

/** The rules on citations. */
export const CITATION_RULES: readonly Rule[] = [
  {
    name: "every cited MUST has a test that carries its tag",
    reason: "style 21: a rule of an RFC that no test names is a rule that may be lost unseen",
    check: untested,
    violations: [
      {
        files: { "src/wire/a.ts": "// RFC 9114 §7.2.8: reserved.\nf();" },
        says: /src\/wire\/a\.ts:1: no test named \[RFC9114-7\.2\.8\]/,
      },
      {
        files: {
          "src/wire/a.ts": "// RFC 9114 §7.2: x.\nf();",
          "test/wire/a_test.ts": "Deno.test('[RFC9114-7.2.8] x', f);",
        },
        says: /\[RFC9114-7\.2\]/,
      },
      {
        files: { "src/wire/a.ts": "// RFC 9114 §1 and §2 (k), with RFC 9204 §4.2: x." },
        says: /RFC9114-1(.|\n)*RFC9114-2(.|\n)*RFC9204-4\.2/,
      },
      { files: { [EXCEPTIONS_FILE]: `{"RFC9114-1": "gone"}` }, says: /RFC9114-1: nothing in src cites it/ },
      {
        files: { "src/wire/a.ts": "// RFC 9114 §1: x.", [EXCEPTIONS_FILE]: `{"RFC9114-1": ""}` },
        says: /without a reason/,
      },
      {
        files: {
          "src/wire/a.ts": "// RFC 9114 §1: x.",
          [EXCEPTIONS_FILE]: `{"RFC9114-1": "why"}`,
          "test/a_test.ts": "f('[RFC9114-1]');",
        },
        says: /has a test/,
      },
    ],
    fine: {
      "src/wire/a.ts": "// RFC 9114 §7.2.8: x.\n// RFC 9000 §A.1: y.\n/** As RFC 9000 §4 says. */\nf();",
      "test/wire/a_test.ts": "Deno.test(`a [RFC9114-7.2.8]`, f);",
      [EXCEPTIONS_FILE]: `{"RFC9000-A.1": "an example, not a rule"}`,
    },
  },
  {
    name: "citations have the form `RFC 9114 §7.2.8`",
    reason: "style 22: one form can be searched for",
    check: (tree) =>
      tree.sources.filter((file) => file.path.startsWith("src/")).flatMap((file) =>
        file.comments.filter(({ text, kind }) =>
          /\brfc[- ]?\d{3,5}\b/i.test(text.replace(/\bRFC \d{3,5}\b/g, "")) ||
          /RFC \d+,? (section|sec\.)/i.test(text) ||
          (kind === "line" && /^ RFC \d+ §/.test(text) && !CITATION.test(text))
        ).map(({ line }) =>
          `${file.path}:${line}: write RFC n §s, and RFC n §s: why where a branch enforces it`
        )
      ),
    violations: [
      { files: { "src/wire/a.ts": "// RFC9114 §7.2.8: x" }, says: /a\.ts:1/ },
      { files: { "src/wire/a.ts": "// See rfc 9114." }, says: /a\.ts:1/ },
      { files: { "src/wire/a.ts": "// RFC 9114, section 7.2.8: x" }, says: /a\.ts:1/ },
      { files: { "src/wire/a.ts": "// RFC 9114 §7.2.8 reserved types" }, says: /a\.ts:1/ },
      { files: { "src/wire/a.ts": "/** RFC 9114 Section 7 */" }, says: /a\.ts:1/ },
    ],
    fine: { "src/wire/a.ts": "/** RFC 9204 §4.5 and RFC 7541 §C. */\n// RFC 9114 §7.2.8: reserved." },
  },
  {
    name: "no draft is cited",
    reason: "style 22: a draft changes and vanishes; say what the code does",
    check: (tree) =>
      tree.sources.flatMap((file) =>
        [...file.comments.map(({ text, line }) => ({ name: text, line })), ...file.strings]
          .filter(({ name }) => /\bdraft-(ietf|[a-z]+-[a-z])/.test(name) && !isThisRule(file.path))
          .map(({ line }) => `${file.path}:${line}: cites a draft`)
      ),
    violations: [
      { files: { "src/wire/a.ts": "// draft-ietf-webtrans-http3 says so." }, says: /a\.ts:1/ },
      { files: { "test/wire/a_test.ts": `f("draft-smith-quic-x");` }, says: /a_test\.ts:1/ },
    ],
    fine: { "src/wire/a.ts": "// A first draft of the plan." },
  },
];

function untested(tree: SourceTree): string[] {
  const tags = new Set<string>();
  for (const file of tree.sources.filter((file) => /^test\/(?!arch\/)/.test(file.path))) {
    for (const { name } of file.strings) for (const match of name.matchAll(TAG)) tags.add(match[1] ?? "");
  }
  const cited = new Map<string, string[]>();
  for (const file of tree.sources.filter((file) => file.path.startsWith("src/"))) {
    for (const { text, line, kind } of file.comments) {
      if (kind !== "line") continue;
      for (const tag of citedSections(text)) {
        cited.set(tag, [...cited.get(tag) ?? [], `${file.path}:${line}`]);
      }
    }
  }
  const exceptions = readExceptions(tree);
  const found: string[] = [];
  for (const [tag, places] of cited) {
    if (tags.has(tag) || exceptions.has(tag)) continue;
    found.push(...places.map((place) => `${place}: no test named [${tag}]`));
  }
  for (const [tag, reason] of exceptions) {
    if (!cited.has(tag)) found.push(`${EXCEPTIONS_FILE}: ${tag}: nothing in src cites it`);
    if (tags.has(tag)) found.push(`${EXCEPTIONS_FILE}: ${tag} has a test`);
    if (reason.trim() === "") found.push(`${EXCEPTIONS_FILE}: ${tag} without a reason`);
  }
  return found;
}

/** `RFC 9114 §6.2.1, §7.1 and RFC 9204 §4.2: …` cites three sections. */
function citedSections(comment: string): string[] {
  const head = CITATION.exec(comment)?.[1] ?? "";
  const tags: string[] = [];
  let rfc = "";
  for (const match of head.matchAll(/RFC (\d+)|§([0-9A-Z]+(?:\.\d+)*)/g)) {
    if (match[1] !== undefined) rfc = match[1];
    else tags.push(`RFC${rfc}-${match[2]}`);
  }
  return tags;
}

function readExceptions(tree: SourceTree): Map<string, string> {
  return new Map(
    Object.entries(JSON.parse(tree.texts.get(EXCEPTIONS_FILE) ?? "{}") as Record<string, string>),
  );
}

function isThisRule(path: string): boolean {
  return path === "test/arch/rules/citations.ts";
}
