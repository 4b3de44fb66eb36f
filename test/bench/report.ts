/**
 * The bench's results: rows with targets, printed as an aligned table or as JSON.
 */

/** What a figure has to reach. */
export type Target = { readonly atLeast: number } | { readonly atMost: number };

/** CPU seconds that a node used per gigabyte (10^9 bytes) delivered. */
export type CpuPerGigabyte = Readonly<Record<string, number>>;

/** One measured figure. */
export interface Row {
  /** Unique; `--only` selects by a part of it. */
  readonly name: string;
  readonly unit: string;
  /** The median of {@linkcode runs}. */
  readonly figure: number;
  readonly runs: readonly number[];
  readonly target?: Target;
  readonly cpuPerGigabyte?: CpuPerGigabyte;
  /** Anything else worth knowing, for the last column. */
  readonly note?: string;
}

/** The middle value; the mean of the middle two when their number is even. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError("Cannot take the median of nothing");
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Whether a row reaches its target; `undefined` when it has none. */
export function isMet({ figure, target }: Row): boolean | undefined {
  if (target === undefined) return undefined;
  return "atLeast" in target ? figure >= target.atLeast : figure <= target.atMost;
}

/** The rows as a table, one line each. */
export function formatTable(rows: readonly Row[], options: { readonly colours: boolean }): string {
  const lines = rows.map((row) => [
    row.name,
    formatNumber(row.figure),
    row.unit,
    formatTarget(row.target),
    { true: "met", false: "MISSED", undefined: "" }[`${isMet(row)}`],
    formatCpu(row.cpuPerGigabyte),
    row.note ?? "",
  ]);
  const table = [["row", "figure", "unit", "target", "", "CPU s/GB", "note"], ...lines];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((line) => line[column]!.length)));
  return table.map((line) => {
    const cells = line.map((cell, column) =>
      column === 1 ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)
    );
    if (options.colours && line[4] === "met") cells[4] = `\x1b[32m${cells[4]}\x1b[39m`;
    if (options.colours && line[4] === "MISSED") cells[4] = `\x1b[31m${cells[4]}\x1b[39m`;
    return cells.join("  ").trimEnd();
  }).join("\n");
}

/** A number with as many digits as mean something. */
export function formatNumber(value: number): string {
  if (value >= 100) return value.toFixed(0);
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function formatTarget(target: Target | undefined): string {
  if (target === undefined) return "";
  return "atLeast" in target ? `>= ${target.atLeast}` : `<= ${target.atMost}`;
}

function formatCpu(cpu: CpuPerGigabyte | undefined): string {
  if (cpu === undefined) return "";
  return Object.entries(cpu).map(([node, seconds]) => `${node} ${seconds.toFixed(1)}`).join(", ");
}
