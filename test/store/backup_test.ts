import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import type { Store } from "../../src/control/store.ts";
import { verifyChain } from "../../src/core/audit/chain.ts";
import { EPOCH_SETTING } from "../../src/core/network/epoch.ts";
import { RESOURCE_KINDS } from "../../src/core/network/resources.ts";
import { restoreBackup, writeBackup } from "../../src/store/backup.ts";
import { openStore } from "../../src/store/open_store.ts";
import type { StoreConfig } from "../../src/store/sql/open_database.ts";
import { needsPostgres, PostgresServer } from "../support/postgres.ts";
import { testNeeding } from "../support/require_tool.ts";
import { createAgent, createAgentIn, egressSpec, fact, NOW, pool, serviceSpec } from "./store_ground.ts";

const OPTIONS = { logger: SILENT_LOGGER, now: () => NOW };

Deno.test("restoreBackup() refuses a file that is damaged anywhere, and leaves the database as it was", async () => {
  await using folder = await makeFolder();
  const source = sqlite(`${folder.path}/source.db`);
  await fill(source);
  await writeBackup(source, `${folder.path}/whole`, OPTIONS);
  const whole = await Deno.readTextFile(`${folder.path}/whole`);
  const lines = whole.split("\n");
  const target = sqlite(`${folder.path}/target.db`);
  await open(target).then((store) => store[Symbol.asyncDispose]());
  const broken: [string, string][] = [
    ["", "ERR_BACKUP_UNREADABLE"],
    ["{}\n", "ERR_BACKUP_UNREADABLE"],
    ["no JSON\n", "ERR_BACKUP_DAMAGED"],
    [whole.replace('"version":1', '"version":2'), "ERR_BACKUP_NEWER"],
    [whole.slice(0, -1), "ERR_BACKUP_DAMAGED"],
    [lines.slice(0, -2).join("\n") + "\n", "ERR_BACKUP_DAMAGED"],
    [lines[0] + "\n", "ERR_BACKUP_DAMAGED"],
    [lines.toSpliced(5, 1).join("\n"), "ERR_BACKUP_DAMAGED"],
    [whole.replace("alice", "mallo"), "ERR_BACKUP_DAMAGED"],
    [whole + whole, "ERR_BACKUP_DAMAGED"],
  ];
  for (const [i, [text, code]] of broken.entries()) {
    await Deno.writeTextFile(`${folder.path}/broken`, text);
    await assert.rejects(restoreBackup(target, `${folder.path}/broken`, OPTIONS), { code }, `case ${i}`);
  }
  await assert.rejects(restoreBackup(target, `${folder.path}/absent`, OPTIONS), {
    code: "ERR_BACKUP_UNREADABLE",
  });
  await using store = await open(target);
  assert.equal(await store.revision(), 0);
});

Deno.test("restoreBackup() refuses a database that holds a network, unless forced", async () => {
  await using folder = await makeFolder();
  const [source, target] = [sqlite(`${folder.path}/source.db`), sqlite(`${folder.path}/target.db`)];
  await fill(source);
  await writeBackup(source, `${folder.path}/backup`, OPTIONS);
  await withStore(target, (store) => createAgent(store, "mallory"));
  const before = await withStore(target, contentOf);
  await assert.rejects(restoreBackup(target, `${folder.path}/backup`, OPTIONS), {
    code: "ERR_DATABASE_NOT_EMPTY",
  });
  assert.deepEqual(await withStore(target, contentOf), before);
  await restoreBackup(target, `${folder.path}/backup`, { ...OPTIONS, force: true });
  assert.deepEqual(await withStore(target, contentOf), await withStore(source, contentOf));
});

Deno.test("writeBackup() refuses a database that is not there and makes none", async () => {
  await using folder = await makeFolder();
  const path = `${folder.path}/absent.db`;
  await assert.rejects(writeBackup(sqlite(path), `${folder.path}/backup`, OPTIONS), {
    code: "ERR_DATABASE_MISSING",
  });
  assert.deepEqual(await Array.fromAsync(Deno.readDir(folder.path)), []);
});

Deno.test("writeBackup() writes a file for its owner only, whole or not at all", async () => {
  await using folder = await makeFolder();
  const source = sqlite(`${folder.path}/source.db`);
  await fill(source);
  const path = `${folder.path}/backup`;
  await writeBackup(source, path, OPTIONS);
  assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
  const before = await Deno.readTextFile(path);
  await writeBackup(source, path, OPTIONS);
  assert.equal(await Deno.readTextFile(path), before);
  await assert.rejects(writeBackup(source, `${folder.path}/no/such/folder`, OPTIONS), {
    code: "ERR_BACKUP_UNWRITABLE",
  });
  const names = (await Array.fromAsync(Deno.readDir(folder.path))).map(({ name }) => name);
  assert.deepEqual(names.filter((name) => name.endsWith(".part")), []);
});

Deno.test("a backup made while somebody writes is of one moment", async () => {
  await using folder = await makeFolder();
  const source = sqlite(`${folder.path}/source.db`);
  await using store = await open(source);
  await addMany(store, 2_500);
  let isDone = false;
  let writes = 0;
  const writing = (async () => {
    for (; !isDone; writes++) await writePair(store, `pair-${writes}`);
  })();
  const backup = await writeBackup(source, `${folder.path}/backup`, OPTIONS);
  isDone = true;
  await writing;
  assert.ok(writes > 0);
  const target = sqlite(`${folder.path}/target.db`);
  await restoreBackup(target, `${folder.path}/backup`, OPTIONS);
  await withStore(target, (restored) => assertPairs(restored, backup.revision));
});

Deno.test("a restored network is another history each time, whether the backup named one or not", async () => {
  await using folder = await makeFolder();
  const config = sqlite(`${folder.path}/ginnel.db`);
  const seen = new Set<string | undefined>();
  await fill(config);
  for (const name of ["unnamed", "named"]) {
    await writeBackup(config, `${folder.path}/${name}`, OPTIONS);
    await withStore(config, (store) => store.initSetting(EPOCH_SETTING, "from the start"));
    seen.add(await withStore(config, (store) => store.getSetting(EPOCH_SETTING)));
    await restoreBackup(config, `${folder.path}/${name}`, { ...OPTIONS, force: true });
    seen.add(await withStore(config, (store) => store.getSetting(EPOCH_SETTING)));
  }
  seen.delete(undefined);
  // "from the start", and one of each restore.
  assert.equal(seen.size, 3);
});

Deno.test("a restored network goes on from a revision that nobody has seen, and followers read all again", async () => {
  await using folder = await makeFolder();
  const config = sqlite(`${folder.path}/ginnel.db`);
  await fill(config);
  await writeBackup(config, `${folder.path}/backup`, OPTIONS);
  const later = await withStore(config, async (store) => {
    for (let i = 0; i < 5; i++) await createAgent(store, `later-${i}`);
    return await store.revision();
  });
  await restoreBackup(config, `${folder.path}/backup`, { ...OPTIONS, force: true });
  await withStore(config, async (store) => {
    const revision = await store.revision();
    assert.ok(revision > later);
    for (const seen of [0, 1, later]) assert.equal(await store.changesSince(seen), undefined);
    assert.equal((await createAgent(store, "next")).revision, revision + 1);
    assert.equal((await store.changesSince(revision))?.changes.length, 1);
    await store.appendAudit([fact()]);
    assert.equal((await verifyChain(store.readAudit())).ok, true);
    // Addresses given before are not given again.
    const fresh = await store.allocateAddress("fresh", pool());
    assert.ok(fresh.ok && fresh.allocation.virtualIp !== (await store.addressOf("alice"))?.virtualIp);
  });
});

testNeeding(
  [needsPostgres()],
  "a network moves between SQLite and PostgreSQL and back without a difference",
  async () => {
    await using server = await PostgresServer.start();
    await using folder = await makeFolder();
    const chain: StoreConfig[] = [
      sqlite(`${folder.path}/first.db`),
      { kind: "postgres", url: await server.createDatabase() },
      { kind: "postgres", url: await server.createDatabase() },
      sqlite(`${folder.path}/last.db`),
    ];
    await fill(chain[0]!);
    const content = await withStore(chain[0]!, contentOf);
    for (const [i, target] of chain.slice(1).entries()) {
      const path = `${folder.path}/backup-${i}`;
      const written = await writeBackup(chain[i]!, path, OPTIONS);
      const restored = await restoreBackup(target, path, OPTIONS);
      assert.equal(restored.rows, written.rows);
      assert.deepEqual(await withStore(target, contentOf), content);
      await assert.rejects(restoreBackup(target, path, OPTIONS), { code: "ERR_DATABASE_NOT_EMPTY" });
    }
    // Byte for byte, but for the revision, what hangs on it, and the name of the history.
    const rows = async (name: string) =>
      (await Deno.readTextFile(`${folder.path}/${name}`)).split("\n").slice(3, -2).filter((line) =>
        line.startsWith("[") && !line.includes(EPOCH_SETTING)
      );
    assert.deepEqual(await rows("backup-2"), await rows("backup-1"));
    await restoreBackup(chain[1]!, `${folder.path}/backup-0`, { ...OPTIONS, force: true });
    assert.deepEqual(await withStore(chain[1]!, contentOf), content);
  },
);

testNeeding(
  [needsPostgres()],
  "a backup of PostgreSQL made while somebody writes is of one moment",
  async () => {
    await using server = await PostgresServer.start();
    await using folder = await makeFolder();
    const source: StoreConfig = { kind: "postgres", url: await server.createDatabase() };
    await using store = await open(source);
    await addMany(store, 2_500);
    let isDone = false;
    const writing = (async () => {
      for (let i = 0; !isDone; i++) await writePair(store, `pair-${i}`);
    })();
    const backup = await writeBackup(source, `${folder.path}/backup`, OPTIONS);
    isDone = true;
    await writing;
    const target = sqlite(`${folder.path}/target.db`);
    await restoreBackup(target, `${folder.path}/backup`, OPTIONS);
    await withStore(target, (restored) => assertPairs(restored, backup.revision));
  },
);

/** Something in every table. */
async function fill(config: StoreConfig): Promise<void> {
  await withStore(config, async (store) => {
    const { id: identityId, spec: { spiffeId } } = await createAgent(store, "alice", {
      disabled: true,
      roleAttributes: ["ä💡"],
    });
    await createAgent(store, "bob");
    await store.transaction(async (tx) => {
      await tx.create("service", { name: "db", spec: serviceSpec({ tags: { "'": '"\\u0000\n' } }) });
      const rules = [{ id: "1", type: "default", action: "allow" }];
      const document = { default_action: "deny", clients: { "#zz": { rules }, "#a": { rules } } };
      await tx.create("egress-policy", { name: "main", spec: egressSpec(document, { active: true }) });
      await tx.addEnrolment({ id: "open", identityId, createdAt: NOW, expiresAt: NOW + 10, usedAt: null });
      await tx.addEnrolment({ id: "used", identityId, createdAt: NOW, expiresAt: NOW + 10, usedAt: NOW + 1 });
      await tx.addCertificate({
        ...{ serial: "0A", identityId, spiffeId, issuedAt: NOW, notAfter: NOW + 10 },
        ...{ issuer: "ca", revokedAt: null },
      });
      await tx.once("key", NOW + 10);
      await tx.audit(fact({ detail: { "z\0": 1, a: "\ud800" } }));
    });
    for (const client of ["alice", "bob", "carol"]) {
      await store.allocateAddress(client, pool({ ipv6: "fd00::/64", metadata: { client } }));
    }
    await store.releaseAddress("bob");
    await store.putRelay({ identity: "relay-1", revision: 1, version: "1", sessions: 1, lastSeenAt: NOW });
    await store.putSessions([{
      ...{ id: "1", relay: "relay-1", identity: spiffeId, kind: "connector", remote: "192.0.2.1:1" },
      ...{ services: ["db"], openedAt: NOW, lastSeenAt: NOW, closedAt: null },
    }]);
    await store.setSetting("trustDomain", "example.internal");
    await store.appendAudit(Array.from({ length: 1_500 }, (_, i) => fact({ target: `${i}` })));
  });
}

async function contentOf(store: Store): Promise<unknown> {
  const { resources } = await store.readAll(RESOURCE_KINDS);
  const identities = resources.filter(({ kind }) => kind === "identity");
  const [policy] = (await store.list("egress-policy", { limit: 1 })).items;
  const verdict = await verifyChain(store.readAudit());
  assert.ok(verdict.ok);
  return {
    resources,
    order: Object.keys((policy?.spec.document["clients"] ?? {}) as object),
    enrolments: await Promise.all(identities.map(({ id }) => store.enrolments(id))),
    certificates: await Promise.all(identities.map(({ id }) => store.certificates(id))),
    addresses: await store.addresses({ limit: 500 }),
    sessions: await store.sessions({ limit: 500 }),
    relays: await store.relays(),
    setting: await store.getSetting("trustDomain"),
    audit: verdict,
    newest: await store.queryAudit({ limit: 10 }),
  };
}

/** So much that it is not read in one go. */
async function addMany(store: Store, count: number): Promise<void> {
  await store.appendAudit(Array.from({ length: count }, () => fact()));
  await store.transaction(async (tx) => {
    for (let i = 0; i < 200; i++) await createAgentIn(tx, `many-${i}`);
  });
}

/** Two resources and an entry that are there together or not at all. */
async function writePair(store: Store, name: string): Promise<void> {
  await store.transaction(async (tx) => {
    await createAgentIn(tx, name);
    await tx.create("service", { name, spec: serviceSpec() });
    await tx.audit(fact({ who: name }));
  });
}

async function assertPairs(store: Store, revision: number): Promise<void> {
  const { resources } = await store.readAll(["identity", "service"]);
  const names = (kind: string) =>
    resources.filter((one) => one.kind === kind && one.name.startsWith("pair-")).map(({ name }) => name)
      .sort();
  assert.deepEqual(names("identity"), names("service"));
  const verdict = await verifyChain(store.readAudit());
  assert.ok(verdict.ok);
  assert.equal(verdict.entries, 2_500 + names("service").length);
  assert.equal(revision, 1 + names("service").length);
}

function open(config: StoreConfig): Promise<Store> {
  return openStore(config, OPTIONS);
}

async function withStore<T>(config: StoreConfig, work: (store: Store) => Promise<T>): Promise<T> {
  await using store = await open(config);
  return await work(store);
}

function sqlite(path: string): StoreConfig {
  return { kind: "sqlite", path };
}

async function makeFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await Deno.makeTempDir({ prefix: "ginnel-backup-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}
