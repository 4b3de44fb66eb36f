/** Which folder may import which: design §8, with a reason for every banned edge. */

import { folderOf, type SourceTree } from "../source_tree.ts";
import type { Rule } from "../rule.ts";

/** The layers from top to bottom; folders of one layer do not import one another. */
export const LAYERS: readonly (readonly string[])[] = [
  ["main.ts"],
  ["cli", "sdk"],
  ["modes"],
  ["io", "store", "config", "api", "control", "dataplane", "telemetry"],
  ["identity", "core", "wire"],
  ["base"],
];

/** What each folder's place is for: the reason why something lower or beside must not know it. */
const PLACE: Readonly<Record<string, string>> = {
  "main.ts": "main.ts only starts the command line; nothing can depend on the program's entry",
  cli: "commands talk to people; whatever they need must be usable without a terminal",
  modes: "modes put the parts together; a part that knows its assembly cannot be used in another",
  io: "an adapter is replaceable only while its users see the port, which lives with them",
  store: "the persistence port lives with its consumer; only modes choose a database",
  config: "the file format may change without touching what it configures; modes hand parsed values down",
  api: "REST is one way in; nothing below may depend on it",
  control: "a node must run on its last snapshot when the controller is away",
  dataplane: "bytes flow without knowing who configured, stored or displays them",
  telemetry: "a part reports through a port of its own; modes connect it to logs and metrics",
  sdk: "the SDK is a way in from outside; inside code uses the parts themselves",
  identity: "who somebody is must not depend on protocols or policy",
  core: "decisions are pure functions of their arguments; they know neither protocols nor certificates",
  wire: "codecs turn bytes into values and know nothing of their meaning",
};

/**
 * Ports that adapters may name, as types only, and the folder that implements each: what the data plane asks of a
 * connection to a relay and of a device that packets come from and go to, and what the controller asks of a database.
 * The compiler checks the adapters against them there.
 */
const PORT_FILES: ReadonlyMap<string, string> = new Map([
  ["src/control/store.ts", "store"],
  ["src/dataplane/carrier.ts", "io"],
  ["src/dataplane/tunnel/packet_batch.ts", "io"],
  ["src/dataplane/tunnel/packet_device.ts", "io"],
]);

/** The rules on import directions. */
export const LAYER_RULES: readonly Rule[] = [
  {
    name: "imports go downward only, and never between folders of one layer",
    reason: "design §8: main -> cli, sdk -> modes -> {io, …} -> {identity, core, wire} -> base",
    check: bannedEdges,
    violations: [
      {
        files: { "src/wire/a.ts": `import { b } from "../core/b.ts";`, "src/core/b.ts": "" },
        says: /wire -> core.*decisions are pure/,
      },
      {
        files: { "src/base/a.ts": `const x = await import("../io/b.ts");` },
        says: /base -> io.*see the port/,
      },
      { files: { "src/dataplane/a.ts": `import type { B } from "../io/b.ts";` }, says: /dataplane -> io/ },
      { files: { "src/io/a.ts": `import { b } from "../dataplane/carrier.ts";` }, says: /io -> dataplane/ },
      {
        files: { "src/io/a.ts": `import { b } from "../dataplane/tunnel/packet_batch.ts";` },
        says: /io -> dataplane/,
      },
      {
        files: { "src/io/a.ts": `import type { B } from "../dataplane/splice.ts";` },
        says: /io -> dataplane/,
      },
      { files: { "src/io/a.ts": `export { b } from "../modes/b.ts";` }, says: /io -> modes/ },
      { files: { "src/io/a.ts": `type B = import("../cli/b.ts").B;` }, says: /io -> cli/ },
      { files: { "src/cli/a.ts": `import "../../main.ts";` }, says: /cli -> main\.ts/ },
      { files: { "src/modes/a.ts": `import { b } from "../sdk/b.ts";` }, says: /modes -> sdk.*way in/ },
      { files: { "src/sdk/a.ts": `import { b } from "../cli/b.ts";` }, says: /sdk -> cli/ },
      { files: { "src/modes/a.ts": `import { x } from "../../test/support/x.ts";` }, says: /tests/ },
      { files: { "src/odd/a.ts": "" }, says: /src\/odd is not a folder of the design/ },
    ],
    fine: {
      "main.ts": `import { a } from "./src/cli/a.ts";`,
      "src/cli/a.ts": `import { b } from "../base/b.ts";`,
      "src/base/b.ts": `import { c } from "./c.ts";`,
      "src/io/a.ts": `import type { Carrier } from "../dataplane/carrier.ts";`,
      "src/io/b.ts": `import type { PacketDevice } from "../dataplane/tunnel/packet_device.ts";`,
    },
  },
  {
    name: "only modes, sdk and tests construct adapters",
    reason:
      "design §8: whoever constructs an adapter decides what the program runs on; the rest take what they are given",
    check: constructedAdapters,
    violations: [
      {
        files: { "src/cli/a.ts": `import { listenTcp } from "../io/tcp/listen.ts";` },
        says: /src\/cli\/a\.ts:1/,
      },
      { files: { "main.ts": `import { openStore } from "./src/store/open.ts";` }, says: /main\.ts:1/ },
    ],
    fine: {
      "src/modes/relay.ts": `import { listenQuic } from "../io/quic/listener.ts";`,
      "src/cli/a.ts": `import type { Listener } from "../io/tcp/listen.ts";`,
      "src/io/tcp/listen.ts": `import { a } from "../quic/a.ts";`,
    },
  },
  {
    name: "every folder the rules name exists",
    reason: "a rule about a folder that is not there holds nothing",
    check: missingFolders,
    violations: [
      { files: { "src/base/a.ts": "" }, says: /src\/wire is missing/ },
    ],
    fine: everyFolder(),
  },
];

function bannedEdges(tree: SourceTree): string[] {
  const found: string[] = [];
  for (const file of tree.sources.filter((file) => isProduct(file.path))) {
    const from = folderOf(file.path);
    if (layerOf(from) === -1) found.push(`${file.path}:1: src/${from} is not a folder of the design`);
    for (const { target, line, typeOnly } of file.imports) {
      if (target === undefined) continue;
      if (!isProduct(target)) {
        found.push(`${file.path}:${line}: imports ${target}: the product never depends on its tests`);
        continue;
      }
      const to = folderOf(target);
      const downward = from === to || layerOf(to) > layerOf(from);
      const port = typeOnly && PORT_FILES.get(target) === from;
      if (!downward && !port) {
        found.push(`${file.path}:${line}: ${from} -> ${to}: ${PLACE[to] ?? "unknown folder"}`);
      }
    }
  }
  return found;
}

function constructedAdapters(tree: SourceTree): string[] {
  return tree.sources.filter((file) =>
    isProduct(file.path) && !["modes", "sdk", "io", "store"].includes(folderOf(file.path))
  )
    .flatMap((file) =>
      file.imports
        .filter(({ target, typeOnly }) =>
          target !== undefined && ["io", "store"].includes(folderOf(target)) && !typeOnly
        )
        .map(({ line, target }) => `${file.path}:${line}: takes more than types from ${target}`)
    );
}

function missingFolders(tree: SourceTree): string[] {
  const folders = new Set([...tree.paths].map(folderOf));
  const found: string[] = [];
  for (const folder of LAYERS.flat()) {
    if (folder === "main.ts") continue;
    if (!folders.has(folder)) found.push(`src/${folder} is missing`);
  }
  return found;
}

function everyFolder(): Record<string, string> {
  const present = LAYERS.flat().filter((folder) => folder !== "main.ts");
  return Object.fromEntries(present.map((folder) => [`src/${folder}/a.ts`, ""]));
}

function isProduct(path: string): boolean {
  return path === "main.ts" || path.startsWith("src/");
}

function layerOf(folder: string): number {
  return LAYERS.findIndex((layer) => layer.includes(folder));
}
