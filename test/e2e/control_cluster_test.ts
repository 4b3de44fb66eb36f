/**
 * Two controllers on one PostgreSQL are one network: what is done at one holds at the relays of the other, and neither
 * the death of a controller nor of the database loses anything.
 */

import assert from "node:assert/strict";
import { makeCsr } from "../../src/identity/csr.ts";
import { generateKeyPair } from "../../src/identity/key_pair.ts";
import { Cluster, untilReset } from "../support/controller_cluster.ts";
import { PROGRAM } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { askName, connectNamed } from "../support/named_upstream.ts";
import { needsPostgres } from "../support/postgres.ts";
import { runCommand } from "../support/processes.ts";
import { testNeeding } from "../support/require_tool.ts";
import { within } from "../support/within.ts";

/** Clients that ask both controllers at once. */
const CLIENTS = 8;

testNeeding([needsPostgres()], "two controllers on PostgreSQL are one network, whichever dies", async (t) => {
  await using cluster = await Cluster.start();
  const { ground, first, second, agent, watcher } = cluster;

  await t.step("eight clients at both at once never get one token or address twice", async () => {
    const names = Array.from({ length: CLIENTS }, (_, n) => `client-${n}`);
    const invited = await Promise.all(names.map((name) => ground.invite("agent", name)));
    const enrolments = await Promise.all(invited.map(async ({ token, spiffeId }) => {
      const answers = await Promise.all([first, second, first, second].map(async (controller) => {
        const json = { token, csr: await makeCsr(await generateKeyPair(), spiffeId) };
        return await controller.request({ method: "POST", path: "/enrolment/v1/enrol", body: json });
      }));
      return answers.map(({ status }) => status).sort();
    }));
    assert.deepEqual(enrolments, names.map(() => [200, 401, 401, 401]));
    const addresses = await Promise.all(names.flatMap((name) =>
      Array.from({ length: 5 }, async (_, n) => {
        const body = { client_id: `${name}/${n}` };
        const answers = await Promise.all([first, second].map((controller) =>
          controller.request({ method: "POST", path: "/ipam/allocations", body, token: ground.token })
        ));
        assert.deepEqual(
          answers.map(({ status }) =>
            status
          ).sort(),
          [200, 201],
        );
        const [one, other] = answers.map(({ json }) => (json as { virtual_ip: string }).virtual_ip);
        assert.equal(one, other);
        return one;
      })
    ));
    assert.equal(new Set(addresses).size, CLIENTS * 5);
  });

  await t.step("a change at one is in force at the relay of the other within 1 s", async () => {
    await cluster.assertCutOff("caller-1", { at: first });
  });

  await t.step("so is the end of a session", async () => {
    const { conn } = await connectNamed(agent.forward("web"));
    const [session] = await cluster.sessionsOf(agent);
    await cluster.ask(first, "DELETE", `/sessions/${encodeURIComponent(session!)}`);
    await cluster.inTime(() => untilReset(conn));
    await eventually(() => askName(agent.forward("web")));
  });

  await t.step(
    "so are an address that is released, and those of a disabled or deleted identity",
    async () => {
      const { id, spiffeId } = await ground.invite("agent", "bob");
      const { spiffeId: carol, id: carolsId } = await ground.invite("agent", "carol");
      for (
        const [client, method, path] of [
          [spiffeId, "DELETE", `/ipam/allocations/${encodeURIComponent(spiffeId)}`],
          [spiffeId, "POST", `/identities/${id}/disable`],
          [carol, "DELETE", `/identities/${carolsId}`],
        ] as const
      ) {
        await ground.api("POST", "/ipam/allocations", { client_id: client });
        const before = watcher.released.length;
        await cluster.ask(first, method, path);
        await cluster.inTime(() => eventually(() => watcher.released.length > before));
        assert.equal(watcher.released.at(-1), client, path);
      }
    },
  );

  await t.step("a killed controller's relay follows the other by itself and misses nothing", async () => {
    const doomed = await cluster.caller("caller-2");
    const { conn } = await connectNamed(doomed.forward("web"));
    const { conn: bystander } = await connectNamed(agent.forward("web"));
    await second.kill();
    // Made when the relay follows nobody.
    await cluster.ask(first, "POST", `/identities/${doomed.id}/disable`);
    await within(4_000, () => untilReset(conn), { processes: [first.process.pid] });
    await cluster.assertCutOff("caller-3", { at: first });
    const before = cluster.web.received;
    await bystander.write(new Uint8Array(10));
    await eventually(() => cluster.web.received === before + 10);
    bystander.close();
  });

  await t.step("a controller cut off from the database hands its relays to the other one", async () => {
    const proxy = await cluster.startBehindProxy();
    await eventually(() => watcher.follower.status().connected);
    watcher.places = [second, first];
    proxy.cut();
    await eventually(async () => (await second.request({ path: "/ready" })).status === 503);
    const name = "told-by-the-first";
    await cluster.ask(first, "POST", "/services", { name });
    await eventually(() => watcher.knows(name), { timeout: 20_000 });
    proxy.heal();
    await eventually(async () => (await second.request({ path: "/ready" })).status === 200);
    watcher.places = [second];
  });

  await t.step("while PostgreSQL is away both say so and flows go on; then both recover", async () => {
    const { conn } = await connectNamed(agent.forward("web"));
    await cluster.postgres.stop("SIGQUIT");
    for (const controller of [first, second]) {
      await eventually(async () => (await controller.request({ path: "/ready" })).status === 503);
      assert.equal((await controller.request({ path: "/health" })).status, 200);
    }
    const { status } = await ground.api("POST", "/services", { name: "unheard" });
    assert.equal(status, 503);
    assert.equal(await askName(agent.forward("web")), "web");
    await cluster.postgres.start();
    for (const controller of [first, second]) {
      await eventually(async () => (await controller.request({ path: "/ready" })).status === 200);
    }
    // Each hears of the other's changes again.
    await eventually(() => watcher.follower.status().connected);
    await cluster.assertCutOff("caller-4", { at: first });
    for (const controller of [first, second]) {
      const name = `after-${controller.name}`;
      await cluster.ask(controller, "POST", "/services", { name });
      await cluster.inTime(() => eventually(() => watcher.knows(name)));
    }
    conn.close();
  });

  await t.step("a backup of it on SQLite is the same network, also for a relay that knew more", async () => {
    const { folder } = ground;
    await runCommand([
      ...PROGRAM,
      ...["backup", "--config", `${folder}/${second.name}.config.json`, "-o", `${folder}/backup`],
    ]);
    const before = await cluster.contents(first);
    await cluster.ask(first, "POST", "/services", { name: "too-late" });
    await eventually(() => watcher.knows("too-late"));
    await using restored = await cluster.restore(`${folder}/backup`);
    assert.deepEqual(await cluster.contents(restored), before);
    watcher.places = [restored];
    await first.kill();
    await second.kill();
    await eventually(() => watcher.follower.status().connected && !watcher.knows("too-late"), {
      timeout: 20_000,
    });
    assert.ok(watcher.knows("after-controller-2"));
    const config = `${folder}/restored/controller-1.config.json`;
    await runCommand([...PROGRAM, "audit", "verify", "--config", config]);
  });
});
