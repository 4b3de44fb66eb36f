/**
 * `deno task test`: runs the whole suite in separate processes, so that one that dies takes only its own
 * tests with it. One that fails is run once more by itself, and named. Ends with `N passed, N failed`, and `, N skipped`
 * where a test's tool is missing.
 *
 * `deno task test -- test/wire test/e2e/smoke_test.ts --filter=varint` runs a part of it.
 */

/** What one process of tests came to. */
export interface ShardResult {
  readonly passed: number;
  readonly failed: number;
  /** Names of skipped tests; each says what it needs. */
  readonly skipped: readonly string[];
}

/** The files one process runs. */
export interface Shard {
  readonly name: string;
  readonly files: readonly string[];
  /** Runs with nothing else beside it: it starts programs, or measures time or memory. */
  readonly alone: boolean;
}

/** Folders whose tests start programs or measure: one file at a time, nothing beside it. */
const ALONE = new Set(["e2e", "interop", "packaging"]);

/**
 * Of those, what may have company: whole networks on ports or in namespaces of their own, clients nobody here wrote. Not
 * the ones that measure memory.
 */
const SOCIABLE = /^test\/(?:packaging\/|interop\/|e2e\/(?!admission_limits|slow_clients|control_attacks))/;

/** Folders that would take one process minutes: a process for each folder in them. */
const WIDE = new Set(["cli", "io", "modes"]);

/** Processes of tests at a time. On two cores four took as long as three, and more of them missed a time limit. */
const PARALLEL = 3;

/** Minutes after which a process of tests is ended and counts as failed. */
const SHARD_MINUTES = 12;

/**
 * Splits test files into processes: a folder each, or a file each where the folder starts programs. The longest come first,
 * so that none is left to the end: packaging, then folders.
 */
export function planShards(files: readonly string[]): Shard[] {
  const shards = new Map<string, string[]>();
  for (const file of files.toSorted()) {
    const name = isLarge(file) ? file : folderOf(file);
    shards.set(name, [...shards.get(name) ?? [], file]);
  }
  const plan = [...shards].map(([name, group]) => ({
    name,
    files: group,
    alone: isLarge(name) && !SOCIABLE.test(name),
  }));
  const rank = ({ name }: Shard) => name.startsWith("test/packaging/") ? 0 : isLarge(name) ? 2 : 1;
  return plan.toReversed().toSorted((a, b) => rank(a) - rank(b));
}

/**
 * Reads what `deno test` printed. Without its closing summary the process died: one failure. An exit code
 * that disagrees with the summary is a failure too.
 */
export function readOutput(output: string, exitCode: number): ShardResult {
  const summaries = [
    ...output.matchAll(/^(?:ok|FAILED) \| (\d+) passed(?: \([^)]*\))? \| (\d+) failed(?: \([^)]*\))?/gm),
  ];
  const skipped = [...output.matchAll(/^(\S.*) \.\.\. ignored \([^)]*\)$/gm)].map((match) => match[1] ?? "");
  const summary = summaries.at(-1);
  if (summary === undefined) return { passed: 0, failed: 1, skipped };
  const failed = Number(summary[2]);
  return { passed: Number(summary[1]), failed: failed === 0 && exitCode !== 0 ? 1 : failed, skipped };
}

/** The closing line, in the form machines read. */
export function closingLine(total: ShardResult): string {
  const skipped = total.skipped.length > 0 ? `, ${total.skipped.length} skipped` : "";
  return `${total.passed} passed, ${total.failed} failed${skipped}`;
}

/** Where nothing may be missing, a skipped test is a failed one. */
export function judgeSkips(total: ShardResult, options: { readonly strict: boolean }): ShardResult {
  return options.strict ? { ...total, failed: total.failed + total.skipped.length, skipped: [] } : total;
}

async function main(args: readonly string[]): Promise<number> {
  const options = args.filter((argument) => argument.startsWith("--") && argument !== "--");
  const paths = args.filter((argument) => !argument.startsWith("--"));
  const missing = paths.find((path) => !exists(path));
  if (missing !== undefined) {
    console.error(`No such test file or folder: ${missing}`);
    return 2;
  }
  const files = [
    ...new Set((await Promise.all((paths.length > 0 ? paths : ["test"]).map(testFiles))).flat()),
  ];
  const started = Date.now();
  const results = new Map<Shard, ShardResult>();
  const shards = planShards(files);
  const together = shards.filter((shard) => !shard.alone);
  const worker = async () => {
    for (let shard = together.shift(); shard !== undefined; shard = together.shift()) {
      results.set(shard, await runShard(shard, options, { stream: false }));
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  for (const shard of shards.filter((shard) => shard.alone)) {
    results.set(shard, await runShard(shard, options, { stream: true }));
  }
  const unsteady = await runFailedAgain(results, options);
  return report({ results: [...results.values()], unsteady, milliseconds: Date.now() - started });
}

/**
 * Gives each failed process one more chance with nothing beside it, since a machine shared with others can stall for
 * longer than any time-out; returns the names of those that passed then. What is really broken fails twice.
 */
async function runFailedAgain(
  results: Map<Shard, ShardResult>,
  options: readonly string[],
): Promise<readonly string[]> {
  const unsteady: string[] = [];
  for (const [shard, { failed }] of [...results]) {
    if (failed === 0) continue;
    console.log(`\nOnce more: ${shard.name}`);
    const again = await runShard(shard, options, { stream: true });
    if (again.failed === 0) unsteady.push(shard.name);
    results.set(shard, again);
  }
  return unsteady;
}

async function runShard(
  shard: Shard,
  options: readonly string[],
  { stream }: { readonly stream: boolean },
): Promise<ShardResult> {
  const started = Date.now();
  if (stream) console.log(`\n${shard.name}`);
  // What is looked at closely may take a tenth longer.
  const close = stream ? ["--trace-leaks"] : [];
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", "--no-check", "--allow-all", ...close, ...options, ...shard.files],
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const limit = setTimeout(() => child.kill("SIGKILL"), SHARD_MINUTES * 60_000);
  const [output, errors, status] = await Promise.all([
    readLines(child.stdout, stream),
    readLines(child.stderr, stream),
    child.status,
  ]);
  clearTimeout(limit);
  const result = readOutput(output, status.code);
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  if (result.failed > 0 && !stream) console.log(`\n${output}\n${errors}`);
  if (status.signal !== null) console.log(`${shard.name}: the process ended by ${status.signal}`);
  console.log(`${result.failed > 0 ? "FAIL" : "ok  "} ${shard.name}: ${closingLine(result)} (${seconds} s)`);
  return result;
}

interface Outcome {
  readonly results: readonly ShardResult[];
  /** Names of those that passed only when run again. */
  readonly unsteady: readonly string[];
  readonly milliseconds: number;
}

function report({ results, unsteady, milliseconds }: Outcome): number {
  const sum = (pick: (result: ShardResult) => number) =>
    results.reduce((total, result) => total + pick(result), 0);
  const skipped = results.flatMap((result) => result.skipped);
  const strict = Deno.env.get("CI") === "true" && Deno.uid() === 0;
  if (skipped.length > 0) {
    console.log(`\nSkipped${strict ? ", which counts as failed in CI" : ""}:`);
    for (const name of skipped) console.log(`  ${name}`);
  }
  if (unsteady.length > 0) console.log(`\nPassed only when run again: ${unsteady.join(", ")}`);
  const found = { passed: sum((result) => result.passed), failed: sum((result) => result.failed), skipped };
  const total = judgeSkips(found, { strict });
  const ran = total.passed + total.failed + total.skipped.length > 0;
  if (!ran) console.log("\nNo test was found.");
  console.log(`\nTook ${Math.round(milliseconds / 1000)} s on Deno ${Deno.version.deno}.`);
  console.log(closingLine(total));
  return total.failed > 0 || !ran ? 1 : 0;
}

async function testFiles(path: string): Promise<string[]> {
  if ((await Deno.stat(path)).isFile) return [path.replace(/^\.\//, "")];
  const files: string[] = [];
  for await (const entry of Deno.readDir(path)) {
    const child = `${path.replace(/^\.\//, "").replace(/\/+$/, "")}/${entry.name}`;
    if (entry.isDirectory) files.push(...await testFiles(child));
    else if (entry.name.endsWith("_test.ts")) files.push(child);
  }
  return files;
}

async function readLines(source: ReadableStream<Uint8Array>, stream: boolean): Promise<string> {
  let text = "";
  for await (const part of source.pipeThrough(new TextDecoderStream())) {
    text += part;
    if (stream) await Deno.stdout.write(new TextEncoder().encode(part));
  }
  return text;
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function folderOf(file: string): string {
  const parts = file.split("/");
  return parts.slice(0, WIDE.has(parts[1] ?? "") ? Math.min(3, parts.length - 1) : 2).join("/");
}

function isLarge(file: string): boolean {
  return file.endsWith(".ts") && ALONE.has(file.split("/")[1] ?? "");
}

if (import.meta.main) Deno.exit(await main(Deno.args));
