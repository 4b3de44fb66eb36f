/**
 * Measures the control plane on grounds of `test/support/`: how long a change takes to reach relays, how fast addresses
 * are given, and how long a flow waits when its relay dies.
 */

import assert from "node:assert/strict";
import postgres from "postgres";
import { sleep } from "../../src/base/async.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import type { Store } from "../../src/control/store.ts";
import { openStore } from "../../src/store/open_store.ts";
import type { ControllerGround } from "../support/controller_ground.ts";
import { eventually } from "../support/eventually.ts";
import { askName, connectNamed, NamedUpstream } from "../support/named_upstream.ts";
import { type AgentNode, Network } from "../support/network.ts";
import { storeLargeNetwork } from "./large_network.ts";

/** Trust domain of the ground. */
const GROUND_DOMAIN = "test.example";

/** Relays in the rows about several of them. */
const RELAYS = 3;

/** The pool of the address row, and how many of its addresses are taken before. */
const POOL = "10.0.0.0/16";
const TAKEN = 32_000;

/** Addresses that the measured clients may take: what remains keeps the pool from being full. */
const FREE = 33_000;

/** Clients that ask for addresses at once. */
const CLIENTS = 8;

/** Three relays on a controller of a large network, a flow over each, and the policy that allows them. */
export class ChangeGround implements AsyncDisposable {
  readonly #ground: ControllerGround;
  readonly #database: { readonly kind: "postgres"; readonly url: string } | undefined;
  readonly #upstream = new NamedUpstream("reached");
  readonly #agents: AgentNode[] = [];

  /** Takes the ground over. */
  static async create(
    ground: ControllerGround,
    database?: { readonly kind: "postgres"; readonly url: string },
  ): Promise<ChangeGround> {
    const change = new ChangeGround(ground, database);
    try {
      await change.#start();
    } catch (error) {
      await change[Symbol.asyncDispose]();
      throw error;
    }
    return change;
  }

  private constructor(
    ground: ControllerGround,
    database: { readonly kind: "postgres"; readonly url: string } | undefined,
  ) {
    this.#ground = ground;
    this.#database = database;
  }

  /**
   * Takes the right to dial away while a flow runs over each relay: milliseconds from the API's answer until the last
   * of the flows has ended at its client.
   */
  async measure(): Promise<number> {
    const { id } = await this.#ground.make("/service-policies", {
      name: "bench-dial",
      type: "Dial",
      semantic: "AnyOf",
      identityRoles: ["#bench"],
      serviceRoles: ["@web"],
    });
    const flows = await Promise.all(
      this.#agents.map((agent) => eventually(() => connectNamed(agent.forward("web")))),
    );
    const ends = flows.map(({ conn }) => endOf(conn));
    const { status } = await this.#ground.api("DELETE", `/service-policies/${id}`);
    const answered = performance.now();
    assert.equal(status, 204);
    return Math.max(0, Math.max(...await Promise.all(ends)) - answered);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#ground[Symbol.asyncDispose]();
    this.#upstream[Symbol.dispose]();
  }

  async #start(): Promise<void> {
    const ground = this.#ground;
    const location = this.#database ?? { kind: "sqlite", path: `${ground.controllers[0]!.data}/ginnel.db` };
    const store = await openStore(location, { logger: SILENT_LOGGER });
    await storeLargeNetwork(store, GROUND_DOMAIN);
    await store[Symbol.asyncDispose]();
    await ground.make("/services", { name: "web" });
    await ground.make("/service-policies", {
      name: "bench-bind",
      type: "Bind",
      semantic: "AnyOf",
      identityRoles: ["#bench"],
      serviceRoles: ["@web"],
    });
    const relays = [];
    for (let n = 1; n <= RELAYS; n++) relays.push(await ground.relay({ name: `relay-${n}`, separate: true }));
    await ground.connector({
      services: { web: this.#upstream.upstream },
      roleAttributes: ["bench"],
      separate: true,
    });
    for (const { name, port } of relays) {
      const agent = await ground.agent({
        name: `agent-at-${name}`,
        forwards: ["web"],
        roleAttributes: ["bench"],
        separate: true,
        untilConnected: false,
        config: { relays: [{ name, address: `127.0.0.1:${port}` }] },
      });
      await agent.waitForLine(/"relay_connected"/);
      this.#agents.push(agent);
    }
  }
}

/** How fast clients ask: each as soon as it is answered, or `perSecond` times in all, begun at even times. */
export interface Pace {
  readonly perSecond?: number;
}

/** Milliseconds of each call by {@linkcode CLIENTS} clients for some seconds; false ends the run. */
async function timeClients(
  seconds: number,
  { perSecond }: Pace,
  call: () => Promise<boolean>,
): Promise<number[]> {
  const times: number[] = [];
  const begun = performance.now();
  const deadline = begun + seconds * 1e3;
  const interval = perSecond === undefined ? 0 : CLIENTS * 1e3 / perSecond;
  await Promise.all(Array.from({ length: CLIENTS }, async (_, index) => {
    let due = begun + interval * index / CLIENTS;
    while (performance.now() < deadline) {
      if (interval > 0) await sleep(Math.max(0, due - performance.now()));
      // From when it was due: a queue that forms counts.
      const started = interval > 0 ? due : performance.now();
      if (!await call()) return;
      times.push(performance.now() - started);
      due += interval;
    }
  }));
  return times;
}

/** A store on PostgreSQL whose pool of addresses goes from half full to nearly full. */
export class AddressGround implements AsyncDisposable {
  readonly #store: Store;
  readonly #bare: postgres.Sql;
  #clients = 0;

  /** Fills half of the pool of an empty database. */
  static async create(url: string): Promise<AddressGround> {
    const store = await openStore({ kind: "postgres", url }, { logger: SILENT_LOGGER });
    const sql = postgres(url, { max: 1, fetch_types: false, onnotice: () => {} });
    try {
      // One by one it would take minutes.
      await sql`INSERT INTO ipam_allocations
        (client_id, virtual_ip, allocated_at, last_seen_at, metadata)
        SELECT 'taken-' || n, '10.0.0.0'::inet + n, now(), now(), '{}'
        FROM generate_series(2, ${TAKEN + 1}::int) AS n`;
      await sql`CREATE TABLE bench_bare (n bigint)`;
      await sql`ANALYZE`;
      const ground = new AddressGround(store, postgres(url, { max: CLIENTS, fetch_types: false }));
      // The first client finds where the free ones begin.
      await ground.#allocate("first");
      return ground;
    } catch (error) {
      await store[Symbol.asyncDispose]();
      throw error;
    } finally {
      await sql.end();
    }
  }

  private constructor(store: Store, bare: postgres.Sql) {
    this.#store = store;
    this.#bare = bare;
  }

  /** Milliseconds of each allocation to a new client; a pool that is full ends the run. */
  async measure(seconds: number, pace: Pace = {}): Promise<number[]> {
    const times = await timeClients(seconds, pace, async () => {
      if (this.#clients >= FREE) return false;
      await this.#allocate(`bench-${++this.#clients}`);
      return true;
    });
    assert.ok(times.length > 0, "the pool is full: measure for fewer runs or seconds");
    return times;
  }

  /** The same of a statement that inserts one row into a table without an index: what no allocation can be faster than. */
  measureInsert(seconds: number, pace: Pace = {}): Promise<number[]> {
    return timeClients(seconds, pace, async () => {
      await this.#bare`INSERT INTO bench_bare VALUES (1)`;
      return true;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#bare.end();
    await this.#store[Symbol.asyncDispose]();
  }

  async #allocate(client: string): Promise<void> {
    const result = await this.#store.allocateAddress(client, {
      now: Date.now(),
      ipv4: POOL,
      ipv6: null,
      reclaimBefore: 0,
    });
    assert.ok(result.ok && result.isNew, `no new address for ${client}`);
  }
}

/** Milliseconds until a new flow has its first byte, right after the agent's first relay of three was killed. */
export async function measureFailOver(): Promise<number> {
  await using network = await Network.create();
  using upstream = new NamedUpstream("reached");
  const relays = [];
  for (let n = 1; n <= RELAYS; n++) {
    relays.push(await network.relay({ name: `relay-${n}`, separate: true }));
  }
  await network.connector({ services: { web: upstream.upstream }, relays, separate: true });
  const agent = await network.agent({ forwards: ["web"], relays, separate: true });
  for (let i = 0; i < 3; i++) await askName(agent.forward("web"));
  await relays[0]!.process!.stop({ signal: "SIGKILL" });
  const killed = performance.now();
  assert.equal(await askName(agent.forward("web")), "reached");
  return performance.now() - killed;
}

/** The value below which that share of all lies. */
export function percentile(values: readonly number[], share: number): number {
  if (values.length === 0) throw new RangeError("Cannot take a percentile of nothing");
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)]!;
}

/** When the connection ended, in whatever way. */
async function endOf(conn: Deno.TcpConn): Promise<number> {
  try {
    while (await conn.read(new Uint8Array(256)) !== null);
  } catch {
    // A reset is how a revoked flow ends.
  }
  const ended = performance.now();
  conn.close();
  return ended;
}
