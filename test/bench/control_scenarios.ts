/**
 * The bench's rows about the control plane. They run on loopback of the host, as their own processes; only what needs
 * PostgreSQL is left out where there is none.
 */

import { toPolicyDocument } from "../../src/core/network/policy_document.ts";
import type { NetworkState } from "../../src/core/network/state.ts";
import { compilePolicy, type PolicySnapshot } from "../../src/core/policy/snapshot.ts";
import { ControllerGround } from "../support/controller_ground.ts";
import { needsPostgres, PostgresServer } from "../support/postgres.ts";
import type { BenchNetwork } from "./bench_network.ts";
import { AddressGround, ChangeGround, measureFailOver, percentile } from "./control_bench.ts";
import { enrolMany } from "./control_load.ts";
import { LARGE_DOMAIN, largeIdentity, largeNetwork } from "./large_network.ts";
import { type Measurement, repeat, rowOf, type Scenario } from "./measurement.ts";
import { median } from "./report.ts";

/** Addresses asked for in a second where clients do not ask without a pause: ten thousand return within a minute. */
const PACE = 200;

/** Devices of the enrolment rows. */
const DEVICES = 1_000;

/** Changes measured in one run. */
const CHANGES = 10;

/** Decisions measured in one run. */
const DECISIONS = 100_000;

/** SPIFFE IDs of the large network. */
const CALLERS = Array.from({ length: 10_000 }, (_, index) => largeIdentity(index));

/** Every row that asks nothing of other processes. */
const COMPILED: readonly Measurement[] = [
  {
    name: "control: compile 10,000 identities, 1,000 services, 200 policies",
    measure: async (_subject, { runs }) => {
      // Once unmeasured: a controller that runs has compiled before.
      compile(largeNetwork());
      const times = await repeat(runs, () => {
        const state = largeNetwork();
        return Promise.resolve(timeOf(() => compile(state)));
      });
      return rowOf(COMPILED[0]!.name, { unit: "ms", runs: times, target: { atMost: 1_000 } });
    },
  },
  {
    name: "control: Dial decision in that network",
    measure: async (_subject, { runs }) => {
      decide(compile(largeNetwork()));
      // A snapshot nobody has asked yet: each caller's first question, which costs most, is among these.
      const times = await repeat(runs, () => {
        const snapshot = compile(largeNetwork());
        return Promise.resolve(timeOf(() => decide(snapshot)) * 1e3 / DECISIONS);
      });
      return rowOf(COMPILED[1]!.name, { unit: "us", runs: times, target: { atMost: 20 } });
    },
  },
];

/** The rows of the control plane. */
export const CONTROL_SCENARIOS: readonly Scenario[] = [
  scenario(COMPILED, () => Promise.resolve()),
  scenario([{
    name: "fail-over: next flow after its relay was killed",
    measure: async (_subject, { runs }) =>
      rowOf("fail-over: next flow after its relay was killed", {
        unit: "ms",
        runs: await repeat(runs, measureFailOver),
        target: { atMost: 2_000 },
      }),
  }], () => Promise.resolve()),
  ...(["sqlite", "postgres"] as const).flatMap((kind) =>
    isMissing(kind) ? [] : [
      enrolments(kind),
      changes(kind),
    ]
  ),
  ...(isMissing("postgres") ? [] : [addresses()]),
];

type Kind = "sqlite" | "postgres";

function isMissing(kind: Kind): boolean {
  return kind === "postgres" && !needsPostgres().met;
}

function enrolments(kind: Kind): Scenario {
  const name = `control: ${DEVICES} enrolments, ${nameOf(kind)}`;
  let ground: ControllerGround;
  return scenario([{
    name,
    measure: async (_subject, { runs }) => {
      let round = 0;
      const results = await repeat(
        runs,
        () => enrolMany(ground, { count: DEVICES, prefix: `round-${++round}` }),
      );
      const each = results.flatMap((result) => result.each);
      return {
        ...rowOf(name, { unit: "s", runs: results.map(({ enrolling }) => enrolling) }),
        note: `8 at a time; each p50 ${percentile(each, 0.5).toFixed(0)} ms, p99 ${
          percentile(each, 0.99).toFixed(0)
        } ms; invited before in ${median(results.map(({ inviting }) => inviting)).toFixed(1)} s`,
      };
    },
  }], async (resources) => {
    ground = resources.use((await controllerOn(kind, resources)).controller);
  });
}

function changes(kind: Kind): Scenario {
  const name = `control: change enforced at 3 relays, ${nameOf(kind)}`;
  let ground: ChangeGround;
  return scenario([{
    name,
    measure: async (_subject, { runs }) => {
      const all: number[] = [];
      const medians = await repeat(runs, async () => {
        const times = await repeat(CHANGES, () => ground.measure());
        all.push(...times);
        return median(times);
      });
      return {
        ...rowOf(name, { unit: "ms", runs: medians, target: { atMost: 50 } }),
        note: `from the API's answer to the last flow's end; slowest of ${all.length} ${
          Math.max(...all).toFixed(1)
        } ms`,
      };
    },
  }], async (resources) => {
    const { controller, database } = await controllerOn(kind, resources);
    ground = resources.use(await ChangeGround.create(controller, database));
  });
}

function addresses(): Scenario {
  const name = "control: address allocation, PostgreSQL";
  let ground: AddressGround;
  return scenario([{
    name: `${name}, ${PACE} a second`,
    measure: async (_subject, { runs, seconds }) => {
      const bare: number[] = [];
      const results = await repeat(runs, async () => {
        bare.push(percentile(await ground.measureInsert(seconds, { perSecond: PACE }), 0.99));
        return percentile(await ground.measure(seconds, { perSecond: PACE }), 0.99);
      });
      return {
        ...rowOf(`${name}, ${PACE} a second`, { unit: "ms p99", runs: results, target: { atMost: 5 } }),
        note: `one bare row in turn: ${median(bare).toFixed(1)} ms p99`,
      };
    },
  }, {
    name,
    measure: async (_subject, { runs, seconds }) => {
      const all: number[] = [];
      const bare: number[] = [];
      const results = await repeat(runs, async () => {
        bare.push(percentile(await ground.measureInsert(seconds), 0.99));
        const times = await ground.measure(seconds);
        all.push(...times);
        return percentile(times, 0.99);
      });
      return {
        ...rowOf(name, { unit: "ms p99", runs: results, target: { atMost: 5 } }),
        note: `8 clients, 10.0.0.0/16 from half full on; p50 ${percentile(all, 0.5).toFixed(2)} ms, ${
          (all.length / runs / seconds).toFixed(0)
        } a second; one bare row in turn: ${median(bare).toFixed(1)} ms p99`,
      };
    },
  }], async (resources) => {
    const server = resources.use(await PostgresServer.start({ isDurable: true }));
    ground = resources.use(await AddressGround.create(await server.createDatabase()));
  });
}

async function controllerOn(kind: Kind, resources: AsyncDisposableStack) {
  if (kind === "sqlite") return { controller: await ControllerGround.create(), database: undefined };
  const server = resources.use(await PostgresServer.start({ isDurable: true }));
  const database = { kind, url: await server.createDatabase() } as const;
  return { controller: await ControllerGround.create({ database }), database };
}

function scenario(
  measurements: readonly Measurement[],
  start: (resources: AsyncDisposableStack) => Promise<void>,
): Scenario {
  return {
    measurements,
    start: async (network: BenchNetwork) => {
      const resources = new AsyncDisposableStack();
      try {
        await start(resources);
      } catch (error) {
        await resources.disposeAsync();
        throw error;
      }
      return { network, targets: network.raw, [Symbol.asyncDispose]: () => resources.disposeAsync() };
    },
  };
}

function nameOf(kind: Kind): string {
  return kind === "sqlite" ? "SQLite" : "PostgreSQL";
}

function compile(state: NetworkState): PolicySnapshot {
  return compilePolicy(toPolicyDocument(state), { trustDomain: LARGE_DOMAIN, declaredOnly: true });
}

/** Of callers and services that do not go in step: some are allowed, most are not. */
function decide(snapshot: PolicySnapshot): void {
  for (let i = 0; i < DECISIONS; i++) {
    snapshot.mayDial(CALLERS[i * 7 % 10_000]!, `service-${i * 13 % 1_000}`);
  }
}

function timeOf(task: () => void): number {
  const started = performance.now();
  task();
  return performance.now() - started;
}
