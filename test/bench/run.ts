/**
 * `deno task bench`: measures Ginnel as separate processes in separate network namespaces and holds it to its targets.
 * `deno task bench -- --only "1 flow" --seconds 3 --runs 1 --json bench.json`
 */

import { parseArgs } from "node:util";
import { errorMessage } from "../../src/base/errors.ts";
import { compileTool } from "../support/compile_tool.ts";
import { needsNetworkNamespaces, needsTool } from "../support/require_tool.ts";
import { BenchNetwork } from "./bench_network.ts";
import type { BenchOptions, Measurement, Subject } from "./measurement.ts";
import { formatNumber, formatTable, isMet, type Row } from "./report.ts";
import { derivedRows, SCENARIOS } from "./scenarios.ts";

const HELP =
  `Usage: deno task bench [--only TEXT]... [--seconds N] [--runs N] [--json FILE] [--program COMMAND]

  --only TEXT       measure only rows whose name contains TEXT; may be repeated
  --seconds N       length of one run (default 5)
  --runs N          runs per row, of which the median counts (default 3)
  --json FILE       also write the results as JSON
  --program COMMAND run nodes with this program, such as a compiled one
  --list            print the names of all rows and end

Exits with 1 when a target is missed, with 2 when it cannot run.
`;

interface Settings extends BenchOptions {
  readonly only: readonly string[];
  readonly json: string | undefined;
  readonly program: string | undefined;
  readonly list: boolean;
}

if (import.meta.main) Deno.exit(await main(Deno.args));

async function main(args: string[]): Promise<number> {
  let settings: Settings | undefined;
  try {
    settings = readSettings(args);
  } catch (error) {
    progress(`${error instanceof Error ? error.message : error}\n\n${HELP}`);
    return 2;
  }
  if (settings === undefined) {
    console.log(HELP);
    return 0;
  }
  if (settings.list) {
    for (const { name } of SCENARIOS.flatMap(({ measurements }) => measurements)) console.log(name);
    return 0;
  }
  const missing = [needsNetworkNamespaces(), needsTool("gcc"), needsTool("iperf3")].filter(({ met }) => !met);
  for (const { name, remedy } of missing) progress(`Cannot run the bench without ${name}: ${remedy}`);
  return missing.length > 0 ? 2 : await runBench(settings);
}

function readSettings(args: string[]): Settings | undefined {
  const { values } = parseArgs({
    args: args.filter((arg) => arg !== "--"),
    options: {
      only: { type: "string", multiple: true, default: [] },
      seconds: { type: "string", default: "5" },
      runs: { type: "string", default: "3" },
      json: { type: "string" },
      program: { type: "string" },
      list: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return undefined;
  const seconds = Number(values.seconds), runs = Number(values.runs);
  if (!(seconds >= 1 && seconds <= 600)) {
    throw new RangeError(`Cannot run for --seconds ${values.seconds}: give 1 to 600`);
  }
  if (!(Number.isInteger(runs) && runs >= 1 && runs <= 100)) {
    throw new RangeError(`Cannot make --runs ${values.runs}: give 1 to 100`);
  }
  return { only: values.only, seconds, runs, json: values.json, program: values.program, list: values.list };
}

async function runBench(settings: Settings): Promise<number> {
  const started = new Date();
  const loadBefore = Deno.loadavg()[0]!;
  const netload = await compileTool(new URL("./tools/netload.c", import.meta.url));
  await using network = await BenchNetwork.create({ netload, program: settings.program?.split(" ") });
  const interrupted = new AbortController();
  const onInterrupt = () => interrupted.abort();
  Deno.addSignalListener("SIGINT", onInterrupt);
  const rows: Row[] = [];
  const failures: string[] = [];
  for (const scenario of SCENARIOS) {
    const wanted = scenario.measurements.filter(({ name }) => isWanted(name, settings.only));
    if (wanted.length === 0 || interrupted.signal.aborted) continue;
    try {
      await using subject = await scenario.start(network);
      for (const measurement of wanted) {
        if (interrupted.signal.aborted) break;
        progress(`${measurement.name} ...`);
        const row = await measureRow(measurement, { subject, settings });
        if ("failed" in row) failures.push(`${measurement.name}: ${row.failed}`);
        else rows.push(row);
      }
    } catch (error) {
      const message = errorMessage(error);
      progress(`failed: ${message}`);
      failures.push(`${wanted.map(({ name }) => name).join(", ")}: ${message}`);
    }
  }
  Deno.removeSignalListener("SIGINT", onInterrupt);
  rows.push(...derivedRows(rows));
  const machine = {
    cores: navigator.hardwareConcurrency,
    kernel: Deno.osRelease(),
    deno: Deno.version.deno,
    loadBefore,
    loadAfter: Deno.loadavg()[0]!,
  };
  console.log(formatTable(rows, { colours: Deno.stdout.isTerminal() && !Deno.noColor }));
  console.log(
    `\n${rows.length} rows, median of ${settings.runs} runs of ${settings.seconds} s; ${machine.cores} cores shared by load, ` +
      `product and sink; Deno ${machine.deno}, kernel ${machine.kernel}; load average ${
        loadBefore.toFixed(1)
      } before.`,
  );
  if (settings.json !== undefined) {
    const report = {
      started: started.toISOString(),
      seconds: settings.seconds,
      runs: settings.runs,
      machine,
      rows,
      failures,
    };
    await Deno.writeTextFile(settings.json, JSON.stringify(report, undefined, 2) + "\n");
  }
  const missed = rows.filter((row) => isMet(row) === false).length;
  if (missed > 0) console.log(`${missed} target${missed === 1 ? "" : "s"} missed.`);
  if (failures.length > 0) console.log(`Not measured:\n${failures.join("\n")}`);
  return missed + failures.length > 0 ? 1 : 0;
}

/** One row, or why there is none; what the nodes logged last goes to the progress. */
async function measureRow(
  { name, measure }: Measurement,
  { subject, settings }: { readonly subject: Subject; readonly settings: Settings },
): Promise<Row | { readonly failed: string }> {
  try {
    const row = await measure(subject, settings);
    progress(`${name}: ${formatNumber(row.figure)} ${row.unit}${row.note ? ` (${row.note})` : ""}`);
    return row;
  } catch (error) {
    const failed = errorMessage(error);
    progress(
      `${name} failed: ${failed}\n${
        (subject.services ?? subject.tunnel ?? subject.product)?.lastLines() ?? ""
      }`,
    );
    return { failed };
  }
}

function isWanted(name: string, only: readonly string[]): boolean {
  return only.length === 0 || only.some((text) => name.includes(text));
}

/** Progress goes to standard error: standard output carries the results only. */
function progress(text: string): void {
  console.error(text);
}
