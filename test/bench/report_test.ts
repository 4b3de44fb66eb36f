/** Tests of the bench's arithmetic and table. */

import assert from "node:assert/strict";
import { formatTable, isMet, median, type Row } from "./report.ts";
import { derivedRows, SCENARIOS } from "./scenarios.ts";

function row(name: string, figure: number, rest: Partial<Row> = {}): Row {
  return { name, unit: "Mbit/s", figure, runs: [figure], ...rest };
}

Deno.test("median() takes the middle, or the mean of the middle two", () => {
  assert.equal(median([9, 1, 5]), 5);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.throws(() => median([]), RangeError);
});

Deno.test("isMet() holds figures to either side of their target", () => {
  assert.equal(isMet(row("a", 1_000, { target: { atLeast: 1_000 } })), true);
  assert.equal(isMet(row("a", 999, { target: { atLeast: 1_000 } })), false);
  assert.equal(isMet(row("a", 300, { target: { atMost: 300 } })), true);
  assert.equal(isMet(row("a", 301, { target: { atMost: 300 } })), false);
  assert.equal(isMet(row("a", 1)), undefined);
});

Deno.test("formatTable() aligns columns and names what was missed", () => {
  const rows = [
    row("short", 1_234.5, { target: { atLeast: 1_000 } }),
    row("a longer name", 9.87, { target: { atLeast: 10 }, note: "why" }),
  ];
  assert.equal(
    formatTable(rows, { colours: false }),
    [
      "row            figure  unit    target           CPU s/GB  note",
      "short            1235  Mbit/s  >= 1000  met",
      "a longer name    9.87  Mbit/s  >= 10    MISSED            why",
    ].join("\n"),
  );
});

Deno.test("derivedRows() compares 8 flows with 1 and latency with raw, where both were measured", () => {
  const rows = [
    row("auto: 1 flow up", 1_000),
    row("auto: 8 flows up", 1_100),
    row("raw: 1 B there and back", 20),
    row("auto: 1 B there and back", 250),
  ];
  assert.deepEqual(derivedRows(rows).map(({ name, figure, target }) => ({ name, figure, target })), [
    { name: "auto: 8 flows against 1, up", figure: 1.1, target: { atLeast: 1 } },
    { name: "auto: added to 1 B there and back", figure: 230, target: { atMost: 300 } },
  ]);
  assert.deepEqual(derivedRows(rows.slice(0, 1)), []);
});

Deno.test("every row of the bench has a name of its own", () => {
  const names = SCENARIOS.flatMap(({ measurements }) => measurements.map(({ name }) => name));
  assert.equal(new Set(names).size, names.length);
});
