/** The live registry, step by step and against a naive model. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { type BindingState, ServiceRegistry, type TerminatorRank } from "../../src/core/registry.ts";

const LIMITS = { maxFlowsPerIdentity: 3, maxServicesPerConnector: 2, maxConnectorsPerService: 2 };
const WIDE = { maxFlowsPerIdentity: 100, maxServicesPerConnector: 100, maxConnectorsPerService: 100 };
const H1 = "spiffe://d/connector/h1";
const H2 = "spiffe://d/connector/h2";
const ALICE = "spiffe://d/agent/alice";

function keys(registry: ServiceRegistry, service: string, exclude?: string[]): string[] {
  const options = exclude === undefined ? {} : { exclude: new Set(exclude) };
  return registry.candidates(service, options).map(({ connectorKey }) => connectorKey);
}

function state(healthy: boolean, rank: Partial<TerminatorRank> = {}): BindingState {
  return { healthy, precedence: "default", cost: 0, ...rank };
}

function start(registry: ServiceRegistry, connectorKey: string, caller = ALICE): number {
  const started = registry.startFlow({ caller, service: "web", connectorKey });
  assert.ok(started.ok);
  return started.flow.id;
}

Deno.test("an unknown service has no candidates", () => {
  assert.deepEqual(new ServiceRegistry(WIDE).candidates("web"), []);
});

Deno.test("candidates() puts the connector with the least flows first", () => {
  const registry = new ServiceRegistry(WIDE);
  registry.bind("c1", H1, "web");
  registry.bind("c2", H2, "web");
  const first = start(registry, "c1");
  assert.deepEqual(registry.candidates("web"), [
    { connectorKey: "c2", identity: H2, flows: 0 },
    { connectorKey: "c1", identity: H1, flows: 1 },
  ]);
  start(registry, "c2");
  start(registry, "c2");
  registry.endFlow(first);
  assert.deepEqual(keys(registry, "web"), ["c1", "c2"]);
});

Deno.test("candidates() counts flows of a connector's other services too", () => {
  const registry = new ServiceRegistry(WIDE);
  for (const key of ["c1", "c2"]) registry.bind(key, key, "web");
  registry.bind("c1", "c1", "db");
  registry.startFlow({ caller: ALICE, service: "db", connectorKey: "c1" });
  assert.deepEqual(keys(registry, "web"), ["c2", "c1"]);
});

Deno.test("among idle connectors short flows take turns", () => {
  const registry = new ServiceRegistry(WIDE);
  for (const key of ["c1", "c2", "c3"]) registry.bind(key, key, "web");
  const turns = Array.from({ length: 6 }, () => {
    const [key] = keys(registry, "web");
    registry.endFlow(start(registry, key!));
    return key;
  });
  assert.deepEqual(turns, ["c1", "c2", "c3", "c1", "c2", "c3"]);
});

Deno.test("candidates() leaves out the excluded, the unhealthy and the unbound", () => {
  const registry = new ServiceRegistry(WIDE);
  for (const key of ["c1", "c2", "c3"]) registry.bind(key, key, "web");
  assert.deepEqual(keys(registry, "web", ["c1"]), ["c2", "c3"]);
  assert.ok(registry.setState("c2", "web", state(false)));
  assert.deepEqual(keys(registry, "web"), ["c1", "c3"]);
  assert.ok(registry.setState("c2", "web", state(true)));
  assert.deepEqual(keys(registry, "web"), ["c1", "c2", "c3"]);
  assert.ok(registry.unbind("c1", "web"));
  assert.deepEqual(keys(registry, "web"), ["c2", "c3"]);
  assert.deepEqual(keys(registry, "web", ["c2", "c3"]), []);
});

Deno.test("precedence comes before cost, and a cost counts as that many flows", () => {
  const registry = new ServiceRegistry(WIDE);
  for (const key of ["c1", "c2", "c3", "c4"]) registry.bind(key, key, "web");
  registry.setState("c1", "web", state(true, { precedence: "failed" }));
  registry.setState("c2", "web", state(true, { cost: 2 }));
  registry.setState("c4", "web", state(true, { precedence: "required", cost: 65_535 }));
  assert.deepEqual(keys(registry, "web"), ["c4", "c3", "c2", "c1"]);
  for (let i = 0; i < 3; i++) start(registry, "c3");
  assert.deepEqual(keys(registry, "web"), ["c4", "c2", "c3", "c1"]);
  registry.setState("c4", "web", state(false, { precedence: "required" }));
  assert.deepEqual(keys(registry, "web"), ["c2", "c3", "c1"]);
});

Deno.test("binding again neither doubles a binding nor heals it", () => {
  const registry = new ServiceRegistry(LIMITS);
  registry.bind("c1", H1, "web");
  registry.setState("c1", "web", state(false));
  assert.deepEqual(registry.bind("c1", H1, "web"), { ok: true });
  assert.deepEqual([...registry.bindings()], [
    { connectorKey: "c1", identity: H1, service: "web", healthy: false },
  ]);
});

Deno.test("bind() holds both limits, and makes room again after unbind and drop", () => {
  const registry = new ServiceRegistry(LIMITS);
  assert.deepEqual(registry.bind("c1", H1, "a"), { ok: true });
  assert.deepEqual(registry.bind("c1", H1, "b"), { ok: true });
  assert.deepEqual(registry.bind("c1", H1, "c"), { ok: false, reason: "services_per_connector" });
  assert.deepEqual(registry.bind("c2", H2, "a"), { ok: true });
  assert.deepEqual(registry.bind("c3", H2, "a"), { ok: false, reason: "connectors_per_service" });
  registry.unbind("c1", "a");
  assert.deepEqual(registry.bind("c3", H2, "a"), { ok: true });
  registry.drop("c2");
  assert.deepEqual(registry.bind("c1", H1, "a"), { ok: true });
});

Deno.test("a refused first bind leaves no trace of the connection", () => {
  const registry = new ServiceRegistry({ ...LIMITS, maxConnectorsPerService: 1 });
  registry.bind("c1", H1, "a");
  registry.bind("c2", H2, "a");
  assert.deepEqual([...registry.bindings()].map(({ connectorKey }) => connectorKey), ["c1"]);
  assert.deepEqual(registry.drop("c2"), []);
});

Deno.test("bind() refuses a second identity on one connection", () => {
  const registry = new ServiceRegistry(WIDE);
  registry.bind("c1", H1, "web");
  assert.throws(() => registry.bind("c1", H2, "db"), TypeError);
});

Deno.test("what is not bound cannot be unbound, marked, dropped or given flows", () => {
  const registry = new ServiceRegistry(WIDE);
  registry.bind("c1", H1, "web");
  assert.equal(registry.unbind("c1", "db"), false);
  assert.equal(registry.unbind("c2", "web"), false);
  assert.equal(registry.setState("c1", "db", state(true)), false);
  assert.equal(registry.setState("c2", "web", state(true)), false);
  assert.deepEqual(registry.drop("c2"), []);
  for (const start of [{ service: "db", connectorKey: "c1" }, { service: "web", connectorKey: "c2" }]) {
    assert.deepEqual(registry.startFlow({ caller: ALICE, ...start }), { ok: false, reason: "not_bound" });
  }
});

Deno.test("flows per identity are bounded, each identity for itself, and freed at the end of a flow", () => {
  const registry = new ServiceRegistry(LIMITS);
  registry.bind("c1", H1, "web");
  const [first] = [start(registry, "c1"), start(registry, "c1"), start(registry, "c1")];
  const again = { caller: ALICE, service: "web", connectorKey: "c1" };
  assert.deepEqual(registry.startFlow(again), { ok: false, reason: "flows_per_identity" });
  start(registry, "c1", "spiffe://d/agent/bob");
  registry.endFlow(first);
  registry.endFlow(first);
  assert.equal(registry.startFlow(again).ok, true);
  assert.equal(registry.startFlow(again).ok, false);
});

Deno.test("flows outlive the drop of their connector and do not count against its successor", () => {
  const registry = new ServiceRegistry(WIDE);
  registry.bind("c1", H1, "web");
  registry.bind("c1", H1, "db");
  const old = start(registry, "c1");
  assert.deepEqual(registry.drop("c1"), ["web", "db"]);
  assert.deepEqual([...registry.flows()].map(({ id }) => id), [old]);
  registry.bind("c1", H1, "web");
  registry.endFlow(old);
  assert.deepEqual(registry.candidates("web"), [{ connectorKey: "c1", identity: H1, flows: 0 }]);
  assert.deepEqual([...registry.flows()], []);
});

Deno.test("flows go on after unbind and still count", () => {
  const registry = new ServiceRegistry(WIDE);
  registry.bind("c1", H1, "web");
  start(registry, "c1");
  registry.unbind("c1", "web");
  registry.bind("c1", H1, "web");
  assert.equal(registry.candidates("web")[0]?.flows, 1);
});

Deno.test("any sequence of operations agrees with a naive model", () => {
  const key = fc.constantFrom("c1", "c2", "c3");
  const service = fc.constantFrom("web", "db", "mail");
  const caller = fc.constantFrom("alice", "bob");
  const step = fc.oneof(
    fc.record({ do: fc.constant("bind" as const), key, service }),
    fc.record({ do: fc.constant("unbind" as const), key, service }),
    fc.record({
      do: fc.constant("state" as const),
      key,
      service,
      state: fc.record({
        healthy: fc.boolean(),
        cost: fc.nat(3),
        precedence: fc.constantFrom("required", "default", "failed"),
      }),
    }),
    fc.record({ do: fc.constant("drop" as const), key }),
    fc.record({ do: fc.constant("start" as const), key, service, caller }),
    fc.record({ do: fc.constant("end" as const), nth: fc.nat(9) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60, size: "max" }), (steps) => {
      const registry = new ServiceRegistry(LIMITS);
      let bindings: { key: string; service: string; state: BindingState }[] = [];
      let flows: { id: number; caller: string; key: string; generation: number }[] = [];
      const generations = new Map<string, number>();
      const lastStart = new Map<string, number>();
      const generation = (name: string) => generations.get(name) ?? 0;
      const find = (name: string, wanted: string) =>
        bindings.find((binding) => binding.key === name && binding.service === wanted);
      for (const operation of steps) {
        switch (operation.do) {
          case "bind": {
            const mine = bindings.filter((binding) => binding.key === operation.key);
            const offering = bindings.filter((binding) => binding.service === operation.service);
            const known = find(operation.key, operation.service) !== undefined;
            const ok = known ||
              (mine.length < LIMITS.maxServicesPerConnector &&
                offering.length < LIMITS.maxConnectorsPerService);
            assert.equal(registry.bind(operation.key, operation.key, operation.service).ok, ok);
            if (ok && !known) {
              bindings.push({ key: operation.key, service: operation.service, state: state(true) });
            }
            break;
          }
          case "unbind": {
            const known = find(operation.key, operation.service);
            assert.equal(registry.unbind(operation.key, operation.service), known !== undefined);
            bindings = bindings.filter((binding) => binding !== known);
            break;
          }
          case "state": {
            const known = find(operation.key, operation.service);
            assert.equal(
              registry.setState(operation.key, operation.service, operation.state),
              known !== undefined,
            );
            if (known !== undefined) known.state = operation.state;
            break;
          }
          case "drop":
            registry.drop(operation.key);
            bindings = bindings.filter((binding) => binding.key !== operation.key);
            generations.set(operation.key, generation(operation.key) + 1);
            lastStart.delete(operation.key);
            break;
          case "start": {
            const open = flows.filter((flow) => flow.caller === operation.caller).length;
            const ok = find(operation.key, operation.service) !== undefined &&
              open < LIMITS.maxFlowsPerIdentity;
            const started = registry.startFlow({
              caller: operation.caller,
              service: operation.service,
              connectorKey: operation.key,
            });
            assert.equal(started.ok, ok);
            if (!started.ok) break;
            lastStart.set(operation.key, started.flow.id);
            flows.push({
              id: started.flow.id,
              caller: operation.caller,
              key: operation.key,
              generation: generation(operation.key),
            });
            break;
          }
          case "end": {
            const flow = flows[operation.nth];
            registry.endFlow(flow?.id ?? -1);
            flows = flows.filter((candidate) => candidate !== flow);
            break;
          }
        }
        assert.deepEqual([...registry.flows()].map(({ id }) => id), flows.map(({ id }) => id));
        for (const wanted of ["web", "db", "mail"]) {
          const load = (name: string) =>
            flows.filter((flow) => flow.key === name && flow.generation === generation(name)).length;
          const expected = bindings.filter((binding) => binding.service === wanted && binding.state.healthy)
            .map((binding) => ({
              key: binding.key,
              flows: load(binding.key),
              last: lastStart.get(binding.key) ?? 0,
              order: ["required", "default", "failed"].indexOf(binding.state.precedence),
              burden: load(binding.key) + binding.state.cost,
            }))
            .sort((a, b) => a.order - b.order || a.burden - b.burden || a.last - b.last);
          const found = registry.candidates(wanted);
          assert.deepEqual(found.map(({ flows }) => flows), expected.map(({ flows }) => flows));
          assert.deepEqual(found.map(({ connectorKey }) => connectorKey), expected.map(({ key }) => key));
        }
      }
    }),
    { numRuns: 300 },
  );
});
