/**
 * What the architecture rules look at: the project's files, and of each TypeScript file the imports, exports,
 * names and comments that its syntax tree holds. Made from the disk, or from planted files in a rule's test.
 */

/** One import of another module, static or dynamic. */
export interface Import {
  /** As written: `../base/bytes.ts`, `zod`, `node:tls`. */
  readonly specifier: string;
  /** Path in the project of a relative import, otherwise `undefined`. */
  readonly target: string | undefined;
  /** Names taken from the module; `*` for all of it. */
  readonly names: readonly string[];
  readonly typeOnly: boolean;
  readonly line: number;
}

/** One exported name. */
export interface Export {
  readonly name: string;
  readonly kind: "type" | "value";
  /** The file itself uses the name beside declaring it. */
  readonly usedInFile: boolean;
  readonly line: number;
}

/** A name as it is used: `Deno.listen`, `Math.random`, `fetch`. */
export interface Use {
  readonly name: string;
  readonly line: number;
}

/** A comment without its marks. */
export interface Comment {
  readonly text: string;
  readonly kind: "line" | "block";
  readonly line: number;
}

/** A TypeScript file, taken apart. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
  readonly lines: number;
  readonly imports: readonly Import[];
  readonly exports: readonly Export[];
  /** `export … from` statements, by line. */
  readonly reexports: readonly number[];
  readonly uses: readonly Use[];
  readonly comments: readonly Comment[];
  /** String literals and template parts. */
  readonly strings: readonly Use[];
  /** Declares a function, or a class with more than a constructor: there is behaviour to test. */
  readonly hasBehaviour: boolean;
}

/** The project's files. */
export interface SourceTree {
  /** Every file, by path from the project's root. */
  readonly paths: ReadonlySet<string>;
  /** Text of the files that are not TypeScript. */
  readonly texts: ReadonlyMap<string, string>;
  readonly sources: readonly SourceFile[];
}

/** Folders beside the tracked ones that no rule looks at. */
const IGNORED = new Set([".git", ".cache", ".dev", "coverage", "dist", "node_modules", "vectors"]);

/** Reads the project from the disk. */
export function readTree(root: string): SourceTree {
  const files = new Map<string, string>();
  collect(root, "", files);
  return treeOf(Object.fromEntries(files));
}

/** Makes a tree of given files. */
export function treeOf(files: Readonly<Record<string, string>>): SourceTree {
  const entries = Object.entries(files);
  return {
    paths: new Set(Object.keys(files)),
    texts: new Map(entries.filter(([path]) => !path.endsWith(".ts"))),
    sources: entries.filter(([path]) => path.endsWith(".ts")).map(([path, text]) => readSource(path, text)),
  };
}

/** Takes one TypeScript file apart. */
export function readSource(path: string, text: string): SourceFile {
  const lineStarts = [0];
  for (let at = text.indexOf("\n"); at !== -1; at = text.indexOf("\n", at + 1)) lineStarts.push(at + 1);
  const lineAt = (offset: number) => lineStarts.findLastIndex((start) => start <= offset) + 1;
  const imports: Import[] = [];
  const exported: { name: string; kind: "type" | "value"; line: number }[] = [];
  const reexports: number[] = [];
  const uses: Use[] = [];
  const strings: Use[] = [];
  const comments: Comment[] = [];
  const identifiers = new Map<string, number>();
  let hasBehaviour = false;
  const addImport = (specifier: string, offset: number, names: readonly string[], typeOnly: boolean) => {
    const target = specifier.startsWith(".") ? resolve(path, specifier) : undefined;
    imports.push({ specifier, target, names, typeOnly, line: lineAt(offset) });
  };
  const addExport = (name: string, kind: "type" | "value", offset: number) =>
    exported.push({ name, kind, line: lineAt(offset) });
  const visitor: Deno.lint.LintVisitor = {
    Program(node) {
      for (const comment of node.comments) {
        const kind = comment.type === "Line" ? "line" : "block";
        comments.push({ text: comment.value, kind, line: lineAt(comment.range[0]) });
      }
    },
    ImportDeclaration(node) {
      const names = node.specifiers.map((specifier) =>
        specifier.type === "ImportSpecifier"
          ? nameOf(specifier.imported)
          : specifier.type === "ImportDefaultSpecifier"
          ? "default"
          : "*"
      );
      const typeOnly = node.importKind === "type" ||
        (node.specifiers.length > 0 &&
          node.specifiers.every((specifier) =>
            specifier.type === "ImportSpecifier" && specifier.importKind === "type"
          ));
      addImport(node.source.value, node.range[0], names, typeOnly);
    },
    ImportExpression(node) {
      const source = node.source;
      if (source.type === "Literal" && typeof source.value === "string") {
        addImport(source.value, node.range[0], ["*"], false);
      }
    },
    TSImportType(node) {
      const argument = node.argument as unknown as { value?: unknown; literal?: { value?: unknown } };
      const specifier = argument.value ?? argument.literal?.value;
      if (typeof specifier === "string") addImport(specifier, node.range[0], ["*"], true);
    },
    ExportAllDeclaration(node) {
      reexports.push(lineAt(node.range[0]));
      addImport(node.source.value, node.range[0], ["*"], false);
    },
    ExportNamedDeclaration(node) {
      if (node.source !== null && node.source !== undefined) {
        reexports.push(lineAt(node.range[0]));
        addImport(
          node.source.value,
          node.range[0],
          node.specifiers.map((specifier) => nameOf(specifier.local)),
          false,
        );
      }
      for (const specifier of node.specifiers) {
        addExport(
          nameOf(specifier.exported),
          node.exportKind === "type" ? "type" : "value",
          specifier.range[0],
        );
      }
      const declaration = node.declaration;
      if (declaration === null || declaration === undefined) return;
      if (declaration.type === "VariableDeclaration") {
        for (const { id } of declaration.declarations) {
          if (id.type === "Identifier") addExport(id.name, "value", id.range[0]);
        }
      } else if (declaration.type === "FunctionDeclaration" || declaration.type === "ClassDeclaration") {
        if (declaration.id) addExport(declaration.id.name, "value", declaration.range[0]);
      } else if (
        declaration.type === "TSInterfaceDeclaration" || declaration.type === "TSTypeAliasDeclaration"
      ) {
        addExport(declaration.id.name, "type", declaration.range[0]);
      }
    },
    FunctionDeclaration: () => void (hasBehaviour = true),
    ArrowFunctionExpression: () => void (hasBehaviour = true),
    MethodDefinition: (node) => void (hasBehaviour ||= node.kind !== "constructor"),
    Identifier(node) {
      identifiers.set(node.name, (identifiers.get(node.name) ?? 0) + 1);
      const parent = node.parent;
      if (parent.type === "Property" && parent.key === node && !parent.computed && !parent.shorthand) return;
      if (parent.type === "MemberExpression" && parent.property === node && !parent.computed) return;
      if (
        ["PropertyDefinition", "MethodDefinition", "TSPropertySignature", "TSMethodSignature"].includes(
          parent.type,
        )
      ) return;
      const member =
        parent.type === "MemberExpression" && parent.object === node && parent.property.type === "Identifier"
          ? `.${parent.property.name}`
          : "";
      uses.push({ name: node.name + member, line: lineAt(node.range[0]) });
    },
    Literal(node) {
      if (typeof node.value === "string") strings.push({ name: node.value, line: lineAt(node.range[0]) });
    },
    TemplateElement(node) {
      strings.push({ name: node.cooked ?? node.raw, line: lineAt(node.range[0]) });
    },
  };
  Deno.lint.runPlugin({ name: "facts", rules: { all: { create: () => visitor } } }, path, text);
  const exports = exported.map((entry) => ({ ...entry, usedInFile: (identifiers.get(entry.name) ?? 0) > 1 }));
  const lines = lineStarts.length - (text.endsWith("\n") ? 1 : 0);
  return { path, text, lines, imports, exports, reexports, uses, comments, strings, hasBehaviour };
}

/** The top folder of a file below `src/`, or the file itself where it lies higher: `wire`, `main.ts`. */
export function folderOf(path: string): string {
  const match = /^src\/([^/]+)\//.exec(path);
  return match?.[1] ?? path;
}

function collect(root: string, prefix: string, files: Map<string, string>): void {
  for (const entry of Deno.readDirSync(`${root}/${prefix}`)) {
    const path = prefix === "" ? entry.name : `${prefix}/${entry.name}`;
    if (entry.isDirectory && !IGNORED.has(entry.name)) collect(root, path, files);
    if (entry.isFile) files.set(path, isText(path) ? Deno.readTextFileSync(`${root}/${path}`) : "");
  }
}

function isText(path: string): boolean {
  return /\.(ts|json|md|sh|ya?ml|c|h)$|(^|\/)(Dockerfile|run|LICENSE|\.gitignore|\.dockerignore)$/.test(path);
}

function resolve(from: string, specifier: string): string {
  return new URL(specifier, `file:///${from}`).pathname.slice(1);
}

function nameOf(node: { readonly type: string; readonly name?: string; readonly value?: unknown }): string {
  return node.name ?? String(node.value);
}
