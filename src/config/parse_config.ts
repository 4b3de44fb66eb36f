/** Reads a config file: JSON text in, a frozen config with all defaults out, or every problem at once. */

import { dirname, resolve } from "node:path";
import type { z } from "zod";
import { ConfigError } from "./errors.ts";
import { closest } from "./closest.ts";
import { parseJsonSource } from "./json_source.ts";
import { readTextFile } from "./read_text_file.ts";
import { type AgentConfig, agentSchema, resolveAgentPaths } from "./schema/agent.ts";
import { type ControllerConfig, controllerSchema, resolveControllerPaths } from "./schema/controller.ts";
import { type ConnectorConfig, connectorSchema, resolveConnectorPaths } from "./schema/connector.ts";
import { type RelayConfig, relaySchema, resolveRelayPaths } from "./schema/relay.ts";
import { describeIssues, listChoices, problemAt } from "./schema_problems.ts";
import { placeOf, SourceFault, type SourceText } from "./source_text.ts";

/** The config of any mode, told apart by `mode`. */
export type Config = RelayConfig | ConnectorConfig | AgentConfig | ControllerConfig;

/** The modes a config can choose. */
const MODES = ["relay", "connector", "agent", "controller"] as const satisfies readonly Config["mode"][];

/** Bytes of the largest config file that is read: 20 times one with 1,024 forwards. */
const MAX_CONFIG_BYTES = 2 * 1024 * 1024;

/** Parses config text; `file` names it in errors and anchors relative paths. Throws `ConfigError`. */
export function parseConfig(text: string, { file }: { readonly file: string }): Config {
  const source = readSource(text, file);
  const folder = dirname(resolve(file));
  const absolute = (path: string) => resolve(folder, path);
  switch (readMode(source, file)) {
    case "relay":
      return deepFreeze(resolveRelayPaths(validate(relaySchema, { source, file }), absolute));
    case "connector":
      return deepFreeze(resolveConnectorPaths(validate(connectorSchema, { source, file }), absolute));
    case "controller":
      return deepFreeze(resolveControllerPaths(validate(controllerSchema, { source, file }), absolute));
    case "agent":
      return deepFreeze(resolveAgentPaths(validate(agentSchema, { source, file }), absolute));
  }
}

/** Reads and parses a config file. Throws `ConfigError`, also when the file cannot be read. */
export async function loadConfig(path: string): Promise<Config> {
  const text = await readTextFile(path, { code: "ERR_CONFIG", maxBytes: MAX_CONFIG_BYTES });
  return parseConfig(text, { file: path });
}

function readSource(text: string, file: string): SourceText {
  try {
    return parseJsonSource(text);
  } catch (error) {
    if (!(error instanceof SourceFault)) throw error;
    const place = placeOf(text, error.offset);
    throw new ConfigError("ERR_CONFIG", [{
      file,
      ...place,
      field: "",
      message: `not JSON: ${error.message}`,
    }], {
      cause: error,
    });
  }
}

function readMode(source: SourceText, file: string): Config["mode"] {
  const { value } = source;
  const fail = (path: string[], message: string) =>
    new ConfigError("ERR_CONFIG", [problemAt(path, message, { file, source })]);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw fail([], "expected an object, { … }");
  }
  const mode = (value as { mode?: unknown }).mode;
  if (mode === undefined) throw fail(["mode"], `is missing: write ${listChoices(MODES)}`);
  const found = MODES.find((candidate) => candidate === mode);
  if (found !== undefined) return found;
  const meant = typeof mode === "string" ? closest(mode, MODES) : undefined;
  throw fail(
    ["mode"],
    `expected ${listChoices(MODES)}${meant === undefined ? "" : `; did you mean ${meant}?`}`,
  );
}

function validate<S extends z.ZodType>(
  schema: S,
  { source, file }: { readonly source: SourceText; readonly file: string },
): z.output<S> {
  const result = schema.safeParse(source.value);
  if (result.success) return result.data;
  throw new ConfigError("ERR_CONFIG", describeIssues(result.error.issues, { file, source, schema }));
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const inner of Object.values(value)) deepFreeze(inner);
    Object.freeze(value);
  }
  return value;
}
