/**
 * House rules on single statements, as a plugin of `deno lint`, so that an editor shows them while typing.
 * `lint_plugin_test.ts` holds each rule to code that it must and must not object to.
 */

/** Errors of a caller's mistake, whose messages have one grammar. */
const CALLER_ERRORS = new Set(["TypeError", "RangeError", "SyntaxError"]);

/** Positional parameters of an exported function, an options object included. */
const MAX_PARAMETERS = 3;

const plugin: Deno.lint.Plugin = {
  name: "ginnel",
  rules: {
    /** Style 8: a top-level function is a declaration, found by its keyword and hoisted below its callers. */
    "no-top-level-arrow": {
      create: (context) => ({
        "Program > VariableDeclaration > VariableDeclarator, Program > ExportNamedDeclaration > VariableDeclaration > VariableDeclarator"(
          node: Deno.lint.VariableDeclarator,
        ) {
          if (!inProduct(context.filename)) return;
          if (node.init?.type !== "ArrowFunctionExpression" && node.init?.type !== "FunctionExpression") {
            return;
          }
          context.report({ node, message: "Declare a top-level function with `function`" });
        },
      }),
    },
    /** Style 8: a constant known at load time is written in CONSTANT_CASE. */
    "constant-case": {
      create: (context) => ({
        "Program > VariableDeclaration > VariableDeclarator, Program > ExportNamedDeclaration > VariableDeclaration > VariableDeclarator"(
          node: Deno.lint.VariableDeclarator,
        ) {
          if (!inProduct(context.filename) || node.id.type !== "Identifier" || !isFixed(node.init)) return;
          if (node.parent.type === "VariableDeclaration" && node.parent.kind !== "const") return;
          if (/^[A-Z][A-Z0-9_]*$/.test(node.id.name)) return;
          context.report({ node, message: `Write the module constant ${node.id.name} in CONSTANT_CASE` });
        },
      }),
    },
    /** Style 8: types are PascalCase, functions camelCase. */
    "naming": {
      create: (context) => {
        const check = (id: Deno.lint.Identifier | null, pattern: RegExp, form: string) => {
          if (id === null || pattern.test(id.name)) return;
          context.report({ node: id, message: `Write ${id.name} in ${form}` });
        };
        return {
          FunctionDeclaration: (node) => check(node.id, /^[a-z][A-Za-z0-9]*$/, "camelCase"),
          ClassDeclaration: (node) => check(node.id, /^[A-Z][A-Za-z0-9]*$/, "PascalCase"),
          TSInterfaceDeclaration: (node) => check(node.id, /^[A-Z][A-Za-z0-9]*$/, "PascalCase"),
          TSTypeAliasDeclaration: (node) => check(node.id, /^[A-Z][A-Za-z0-9]*$/, "PascalCase"),
        };
      },
    },
    /** Style 8: privacy that holds at run time too. */
    "hash-private": {
      create: (context) => ({
        "PropertyDefinition, MethodDefinition"(
          node: Deno.lint.PropertyDefinition | Deno.lint.MethodDefinition,
        ) {
          if (node.type === "MethodDefinition" && node.kind === "constructor") return;
          if (node.accessibility !== "private") return;
          context.report({ node, message: "Use #name in place of `private`" });
        },
      }),
    },
    /** Style 12: two positional arguments and an options object; more cannot be read at the call. */
    "few-parameters": {
      create: (context) => ({
        "ExportNamedDeclaration > FunctionDeclaration"(node: Deno.lint.FunctionDeclaration) {
          if (node.params.length <= MAX_PARAMETERS || !inProduct(context.filename)) return;
          context.report({ node, message: "Pass an options object: at most 3 parameters" });
        },
      }),
    },
    /** Style 15: messages are sentence case without a full stop. */
    "error-message": {
      create: (context) => ({
        NewExpression(node) {
          const [first] = node.arguments;
          if (node.callee.type !== "Identifier" || !CALLER_ERRORS.has(node.callee.name)) return;
          const text = first === undefined ? "" : textOf(first);
          if (/^[a-z]/.test(text) || /[^.]\.$/.test(text)) {
            context.report({ node, message: "Write the message in sentence case, without a full stop" });
          }
        },
      }),
    },
    /** Style 39: the product logs through base/log.ts; only commands print, through their own io. */
    "no-console": {
      create: (context) => ({
        MemberExpression(node) {
          if (node.object.type !== "Identifier" || node.object.name !== "console") return;
          if (!inProduct(context.filename) || /\bsrc[/\\]cli[/\\]/.test(context.filename)) return;
          context.report({ node, message: "Log through base/log.ts" });
        },
      }),
    },
  },
};

/** The plugin, in the form `deno lint` loads. */
export default plugin;

function inProduct(filename: string): boolean {
  return /[/\\]src[/\\]/.test(filename) || /^src[/\\]/.test(filename);
}

/** A value that is written out, not computed: numbers, texts, and lists and tables of them. */
function isFixed(node: Deno.lint.Expression | null): boolean {
  if (node === null) return false;
  switch (node.type) {
    case "Literal":
      return true;
    case "UnaryExpression":
      return isFixed(node.argument);
    case "BinaryExpression":
      return isFixed(node.left as Deno.lint.Expression) && isFixed(node.right);
    case "TSAsExpression":
    case "TSSatisfiesExpression":
      return isFixed(node.expression);
    case "ArrayExpression":
      return node.elements.every((element) => isFixed(element as Deno.lint.Expression));
    case "ObjectExpression":
      return node.properties.every((property) =>
        property.type === "Property" && isFixed(property.value as Deno.lint.Expression)
      );
    default:
      return false;
  }
}

function textOf(node: Deno.lint.Node): string {
  if (node.type === "Literal" && typeof node.value === "string") return node.value;
  if (node.type !== "TemplateLiteral") return "";
  return node.quasis.map((part) => part.cooked ?? part.raw).join("X");
}
