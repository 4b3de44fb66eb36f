/** Kills processes in the middle of writes: nothing they were told is durable is lost, and what is left fits together. */

import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import type { Store } from "../../src/control/store.ts";
import { verifyChain } from "../../src/core/audit/chain.ts";
import { openStore } from "../../src/store/open_store.ts";
import type { StoreConfig } from "../../src/store/sql/open_database.ts";
import { eventually } from "../support/eventually.ts";
import { needsPostgres, PostgresServer } from "../support/postgres.ts";
import { testNeeding } from "../support/require_tool.ts";
import { createAgent, createAgentIn, NOW } from "./store_ground.ts";

/** Acknowledgements of one writer before the kill: about a second of work. */
const ENOUGH = 150;

Deno.test("SQLite: of writers killed with SIGKILL, one after another, nothing acknowledged is lost", async () => {
  const folder = await Deno.makeTempDir({ prefix: "ginnel-crash-" });
  try {
    const config: StoreConfig = { kind: "sqlite", path: `${folder}/ginnel.db` };
    await addShared(config);
    const said: string[] = [];
    for (const name of ["first", "second", "third"]) {
      const writer = new Writer(config, name);
      await writer.waitFor(ENOUGH);
      said.push(...await writer.kill());
      await checkAll(config, said);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

testNeeding(
  [needsPostgres()],
  "PostgreSQL: of two writers killed at once nothing acknowledged is lost",
  async () => {
    await using server = await PostgresServer.start({ isDurable: true });
    const config: StoreConfig = { kind: "postgres", url: await server.createDatabase() };
    await addShared(config);
    const said: string[] = [];
    for (const round of ["a", "b"]) {
      const writers = [new Writer(config, `${round}1`), new Writer(config, `${round}2`)];
      await Promise.all(writers.map((writer) => writer.waitFor(ENOUGH)));
      for (const writer of writers) said.push(...await writer.kill());
      await checkAll(config, said);
    }
  },
);

testNeeding(
  [needsPostgres()],
  "PostgreSQL: a server that crashes loses nothing acknowledged, and its clients carry on",
  async () => {
    await using server = await PostgresServer.start({ isDurable: true });
    const config: StoreConfig = { kind: "postgres", url: await server.createDatabase() };
    await addShared(config);
    await using store = await openStore(config, { logger: SILENT_LOGGER });
    await using other = await openStore(config, { logger: SILENT_LOGGER });
    let heard = 0;
    store.onChange(() => heard++);
    const writer = new Writer(config, "writer");
    await writer.waitFor(ENOUGH);
    await server.stop("SIGQUIT");
    const said = await writer.kill();
    await assert.rejects(store.ping(), { code: "ERR_DATABASE_AWAY" });
    await assert.rejects(createAgent(store, "while-away"));
    await server.start();
    await checkAll(config, said);
    await eventually(() => createAgent(store, "afterwards"));
    // It listens again, without being opened anew.
    await eventually(async () => {
      const before = heard;
      await createAgent(other, crypto.randomUUID());
      await eventually(() => heard > before, { timeout: 1_000 });
      return true;
    });
  },
);

testNeeding(
  [needsPostgres()],
  "PostgreSQL: a connection cut within a transaction ends it, whole",
  async () => {
    await using server = await PostgresServer.start();
    const config: StoreConfig = { kind: "postgres", url: await server.createDatabase() };
    await using store = await openStore(config, { logger: SILENT_LOGGER });
    await assert.rejects(
      store.transaction(async (tx) => {
        await createAgentIn(tx, "before");
        await server.cutConnections();
        await createAgentIn(tx, "after");
      }),
    );
    assert.equal((await store.list("identity", { limit: 1 })).total, 0);
    assert.equal((await createAgent(store, "later")).revision, 1);
  },
);

/** A process of `store_writer.ts`. */
class Writer {
  readonly #child: Deno.ChildProcess;
  readonly #lines: string[] = [];
  readonly #read: Promise<void>;
  #isRunning = true;

  constructor(config: StoreConfig, name: string) {
    const program = new URL("store_writer.ts", import.meta.url).pathname;
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", program, JSON.stringify(config), name],
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#read = this.#readAll();
    void this.#child.status.then(() => this.#isRunning = false);
  }

  async waitFor(lines: number): Promise<void> {
    await eventually(() => this.#lines.length >= lines, { timeout: 60_000 });
    assert.ok(this.#isRunning);
  }

  /** What it said until it was killed. */
  async kill(): Promise<readonly string[]> {
    // It may have ended by itself, when the server did.
    if (this.#isRunning) this.#child.kill("SIGKILL");
    await this.#child.status;
    await this.#read;
    return this.#lines;
  }

  async #readAll(): Promise<void> {
    let rest = "";
    for await (const text of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      this.#lines.push(...lines);
    }
  }
}

/** Enrolments that all writers try to use. */
async function addShared(config: StoreConfig): Promise<void> {
  await using store = await openStore(config, { logger: SILENT_LOGGER });
  const { id: identityId } = await createAgent(store, "shared");
  await store.transaction(async (tx) => {
    for (let i = 0; i < 2_000; i++) {
      await tx.addEnrolment({
        id: `shared-${i}`,
        identityId,
        createdAt: NOW,
        expiresAt: NOW + 10,
        usedAt: null,
      });
    }
  });
}

async function checkAll(config: StoreConfig, said: readonly string[]): Promise<void> {
  await using store = await openStore(config, { logger: SILENT_LOGGER });
  const told = (what: string) =>
    said.filter((line) => line.startsWith(`${what} `)).map((line) => line.slice(what.length + 1));
  assert.ok(said.length >= ENOUGH);
  const identities = await allIdentities(store);
  const audited = new Map<string, string[]>();
  for await (const batch of store.readAudit()) {
    for (const { who, outcome } of batch) audited.set(who, [...audited.get(who) ?? [], outcome]);
  }
  assert.equal((await verifyChain(store.readAudit())).ok, true);

  for (const name of told("identity")) assert.ok(identities.has(name), `${name} is lost`);
  for (const name of told("audit")) assert.equal(audited.get(name)?.length, 3, `entries of ${name} are lost`);
  // Whole or not at all: each identity has its enrolment, its entry and its revision.
  const revisions = new Set<number>();
  for (const [name, { id, revision }] of identities) {
    revisions.add(revision);
    if (name === "shared") continue;
    assert.deepEqual((await store.enrolments(id)).map((enrolment) => enrolment.id), [name]);
    assert.ok(audited.has(name));
  }
  assert.equal([...audited.keys()].filter((name) => !identities.has(name)).length, 0);
  assert.equal(await store.revision(), identities.size);
  assert.equal(revisions.size, identities.size);
  assert.equal((await store.changesSince(0))?.changes.length, identities.size);

  const used = told("used");
  assert.equal(new Set(used).size, used.length, "an enrolment was used twice");
  const addresses = told("address").map((line) => line.split("="));
  assert.equal(
    new Set(addresses.map(([, address]) => address)).size,
    addresses.length,
    "an address was given twice",
  );
  for (const [client = "", address] of addresses) {
    assert.equal((await store.addressOf(client))?.virtualIp, address);
  }
}

async function allIdentities(store: Store) {
  const { resources } = await store.readAll(["identity"]);
  return new Map(resources.map((resource) => [resource.name, resource]));
}
