/** Tests of the rows that follow from the tunnel's measurements. */

import assert from "node:assert/strict";
import { isMet, type Row } from "./report.ts";
import { derivedTunnelRows } from "./tunnel_scenarios.ts";

function row(name: string, figure: number): Row {
  return { name, unit: "", figure, runs: [figure] };
}

Deno.test("derivedTunnelRows() compares within one run and holds latency to its target", () => {
  const rows = [
    row("raw forwarding: TCP 1 flow up", 8_000),
    row("tunnel: TCP 1 flow up", 1_000),
    row("bare QUIC: 1,200 B datagrams", 150_000),
    row("tunnel: 1,200 B UDP up", 120_000),
    row("raw forwarding: 64 B there and back", 20),
    row("tunnel: 64 B there and back", 280),
  ];
  assert.deepEqual(derivedTunnelRows(rows).map((row) => [row.name, row.figure, isMet(row)]), [
    ["tunnel: TCP 1 flow up, against raw forwarding", 0.125, undefined],
    ["tunnel: 1,200 B UDP up, against bare QUIC datagrams", 0.8, undefined],
    ["tunnel: added to 64 B there and back", 260, false],
  ]);
});

Deno.test("derivedTunnelRows() leaves out what was not measured", () => {
  assert.deepEqual(derivedTunnelRows([row("tunnel: TCP 1 flow up", 1_000)]), []);
});
