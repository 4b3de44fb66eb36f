/**
 * Everything `deno task bench` measures, with the targets it holds the product to.
 */

import type { BenchNetwork, Carrier, LongPath, Product } from "./bench_network.ts";
import { CONTROL_SCENARIOS } from "./control_scenarios.ts";
import { idleSessionsRow } from "./idle_sessions.ts";
import { bulkRow, connectsRow, latencyRow, type Measurement, type Scenario } from "./measurement.ts";
import type { Row, Target } from "./report.ts";
import { SERVICE_SCENARIOS } from "./services_scenarios.ts";
import { derivedTunnelRows, TUNNEL_SCENARIOS } from "./tunnel_scenarios.ts";

const FLOWS = [1, 2, 4, 8];
const DIRECTIONS = ["up", "down"] as const;
/** New flows under way at once in the connection rows. */
const CONCURRENCY = 32;
/** Long paths take seconds to reach full speed. */
const LONG_PATH_SECONDS = 10;

/** One flow over a long path: what it must reach, in Mbit/s. */
const LONG_PATHS: readonly { readonly path: LongPath; readonly target?: Target }[] = [
  { path: { roundTripMs: 20, loss: 0 }, target: { atLeast: 400 } },
  { path: { roundTripMs: 50, loss: 0.001 }, target: { atLeast: 100 } },
  { path: { roundTripMs: 100, loss: 0 } },
  { path: { roundTripMs: 100, loss: 0.001 } },
];

/** The whole bench, in order. Targets apply to what a user gets by default: carrier `auto`. */
export const SCENARIOS: readonly Scenario[] = [
  {
    measurements: flowRows("raw", {}),
    start: (network) => Promise.resolve({ network, targets: network.raw, ...NOTHING_TO_STOP }),
  },
  productScenario({
    carrier: "auto",
    measurements: flowRows("auto", { oneFlow: { atLeast: 1_000 }, connects: { atLeast: 1_000 } }),
  }),
  productScenario({ carrier: "quic", measurements: flowRows("quic", {}) }),
  productScenario({ carrier: "tls", measurements: flowRows("tls", {}) }),
  ...LONG_PATHS.map(({ path, target }) => {
    const name = `quic, ${path.roundTripMs} ms round trip${
      path.loss > 0 ? `, ${path.loss * 100} % loss` : ""
    }`;
    return productScenario({
      carrier: "quic",
      path,
      measurements: [
        ...DIRECTIONS.map((direction) =>
          bulkRow(`${name}: 1 flow ${direction}`, {
            flows: 1,
            direction,
            minSeconds: LONG_PATH_SECONDS,
            ...(target ? { target } : {}),
          })
        ),
        latencyRow(`${name}: 1 B there and back`, { size: 1 }),
      ],
    });
  }),
  productScenario({
    carrier: "quic",
    measurements: [idleSessionsRow("idle: relay memory per session", { atMost: 220 })],
  }),
  ...TUNNEL_SCENARIOS,
  ...SERVICE_SCENARIOS,
  ...CONTROL_SCENARIOS,
];

/** Rows that follow from others, as far as those were measured. */
export function derivedRows(rows: readonly Row[]): Row[] {
  const figure = (name: string) => rows.find((row) => row.name === name)?.figure;
  const derived: Row[] = [];
  for (const carrier of ["auto", "quic", "tls"]) {
    const held = carrier === "auto";
    for (const direction of DIRECTIONS) {
      const one = figure(`${carrier}: 1 flow ${direction}`),
        eight = figure(`${carrier}: 8 flows ${direction}`);
      if (one === undefined || eight === undefined) continue;
      const ratio = Math.round(eight / one * 100) / 100;
      derived.push({
        ...{
          name: `${carrier}: 8 flows against 1, ${direction}`,
          unit: "times",
          figure: ratio,
          runs: [ratio],
        },
        ...(held ? { target: { atLeast: 1 } } : {}),
      });
    }
    for (const size of ["1 B", "1 KiB"]) {
      const raw = figure(`raw: ${size} there and back`),
        through = figure(`${carrier}: ${size} there and back`);
      if (raw === undefined || through === undefined) continue;
      derived.push({
        ...{
          name: `${carrier}: added to ${size} there and back`,
          unit: "us p50",
          figure: through - raw,
          runs: [through - raw],
        },
        ...(held ? { target: { atMost: 300 } } : {}),
      });
    }
  }
  return [...derived, ...derivedTunnelRows(rows)];
}

const NOTHING_TO_STOP: AsyncDisposable = { [Symbol.asyncDispose]: () => Promise.resolve() };

function flowRows(
  name: string,
  targets: { readonly oneFlow?: Target; readonly connects?: Target },
): Measurement[] {
  const bulk = DIRECTIONS.flatMap((direction) =>
    FLOWS.map((flows) =>
      bulkRow(`${name}: ${flows} flow${flows === 1 ? "" : "s"} ${direction}`, {
        flows,
        direction,
        ...(flows === 1 && targets.oneFlow ? { target: targets.oneFlow } : {}),
      })
    )
  );
  return [
    ...bulk,
    latencyRow(`${name}: 1 B there and back`, { size: 1 }),
    latencyRow(`${name}: 1 KiB there and back`, { size: 1_024 }),
    connectsRow(`${name}: new flows`, {
      concurrency: CONCURRENCY,
      ...(targets.connects ? { target: targets.connects } : {}),
    }),
  ];
}

function productScenario(
  options: {
    readonly carrier: Carrier;
    readonly path?: LongPath;
    readonly measurements: readonly Measurement[];
  },
): Scenario {
  const { measurements, ...how } = options;
  return {
    measurements,
    start: async (network: BenchNetwork) => {
      const product: Product = await network.startProduct(how);
      return {
        network,
        product,
        targets: product.targets,
        [Symbol.asyncDispose]: () => product[Symbol.asyncDispose](),
      };
    },
  };
}
