/**
 * A user's machine after enrolment: ordinary programs reach services by name, over both versions of IP, with nothing set
 * up for any of them.
 */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import { needsPostgres, PostgresServer } from "../support/postgres.ts";
import { needsRoot, needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { ServiceGround } from "../support/service_ground.ts";
import { UPSTREAM_PORTS } from "../support/service_upstreams.ts";
import { ping, type PingOptions, transferTcp } from "../support/tunnel_traffic.ts";

const NEEDS = [
  needsRoot(),
  needsTun(),
  needsTool("curl"),
  needsTool("ping"),
  needsPostgres(),
  needsTool("psql"),
];
const MEBIBYTE = 1_048_576;

testNeeding(NEEDS, "ordinary programs reach every service by its name, over IPv4 and IPv6", async (t) => {
  await using ground = await ServiceGround.create();
  const upstreams = ground.spawn("conn1", script("service_upstreams.ts"));
  await upstreams.waitForLine(/^ready$/);
  await using postgres = await PostgresServer.start({
    place: (command) => ground.hosts.command("conn1", command),
  });
  const database = new URL(postgres.url);
  const services = {
    web: `tcp://127.0.0.1:${UPSTREAM_PORTS.web}`,
    echo: `tcp://127.0.0.1:${UPSTREAM_PORTS.echo}`,
    datagrams: `udp://127.0.0.1:${UPSTREAM_PORTS.echo}`,
    blunt: `tcp://127.0.0.1:${UPSTREAM_PORTS.blunt}`,
    db: `tcp://127.0.0.1:${database.port}`,
  };
  const addresses = new Map<string, Addresses>();
  for (const name of Object.keys(services)) addresses.set(name, await make(ground, name));
  await ground.allow("Dial");
  await ground.allow("Bind");
  const connector = await ground.startConnector("conn1", {
    services: Object.entries(services).map(([name, upstream]) => ({ name, upstream })),
  });
  await ground.startAgent("agent1");
  await ground.eventually("agent1", ["getent", "hosts", "web.ginnel.internal"]);
  const curl = (path: string, ...options: string[]) =>
    ground.run("agent1", [
      "curl",
      "-sSf",
      "--max-time",
      "10",
      ...options,
      `http://web.ginnel.internal${path}`,
    ]);
  const probe = async (...args: string[]) =>
    JSON.parse(await ground.run("agent1", script("service_probe.ts", args)));

  for (const version of ["-4", "-6"]) {
    await t.step(`HTTP, IPv${version.slice(1)}: answers, late answers, and what was posted`, async () => {
      assert.deepEqual(JSON.parse(await curl("/get", version)), {
        path: "/get",
        host: "web.ginnel.internal",
      });
      const seconds = Number(await curl("/delay/1", version, "-o", "/dev/null", "-w", "%{time_total}"));
      assert.ok(seconds >= 1 && seconds < 5, `it took ${seconds} s`);
      const file = `${ground.folder}/posted`;
      await Deno.writeFile(file, crypto.getRandomValues(new Uint8Array(65_536)));
      await Deno.writeFile(file, repeated(await Deno.readFile(file), 16));
      await curl("/post", version, "--data-binary", `@${file}`, "-o", `${file}.back`);
      assert.deepEqual(await Deno.readFile(`${file}.back`), await Deno.readFile(file));
    });
  }

  await t.step("WebSocket", async () => {
    const seen = await probe("websocket", "ws://web.ginnel.internal/ws", "262144");
    assert.deepEqual(seen, { text: "grüße", intact: true, code: 1000 });
  });

  await t.step("PostgreSQL's own client, with a table and a bulk copy", async () => {
    database.hostname = "db.ginnel.internal";
    const sql = "create table t as select g, md5(g::text) m from generate_series(1, 20000) g; " +
      "select count(distinct m), sum(g) from t";
    const psql = (command: string) => ground.run("agent1", ["psql", "-XAtq", database.href, "-c", command]);
    assert.equal((await psql(sql)).trim(), "20000|200010000");
    assert.equal((await psql("copy t to stdout")).trim().split("\n").length, 20_000);
  });

  for (const to of addresses.get("datagrams")!) {
    await t.step(`UDP payloads of every size, to ${to}`, async () => {
      const bursts = ["16x16", "16x1200", "4x9000", "2x60000"];
      const seen = await probe("datagrams", to, "7", ...bursts);
      assert.deepEqual(seen, Object.fromEntries(bursts.map((burst) => [burst, Number.parseInt(burst)])));
    });
  }

  for (const [index, to] of addresses.get("echo")!.entries()) {
    const size = [50, 10][index]!;
    await t.step(`${size} MiB there and back at once, and the end of one direction, to ${to}`, async () => {
      const bytes = size * MEBIBYTE;
      const seen = await transferTcp(ground, { from: "agent1", to, bytes });
      assert.deepEqual(seen, { sent: bytes, received: bytes, intact: true });
    });
  }

  await t.step("200 connections at once", async () => {
    assert.deepEqual(await probe("many", "echo.ginnel.internal", "7", "200"), { intact: 200 });
  });

  await t.step("resets, in both directions", async () => {
    assert.deepEqual(await probe("provoke", "blunt.ginnel.internal", "9"), { end: "ConnectionReset" });
    assert.deepEqual(await probe("abandon", "blunt.ginnel.internal", "9"), { greeting: "hello" });
    await upstreams.waitForLine(/^blunt hears ECONNRESET$/);
  });

  await t.step("ping, answered by the connector and by nobody once it is dead", async () => {
    const pings = (options: PingOptions) =>
      Promise.all(addresses.get("web")!.map(async (to) => {
        const { sent, received } = await ping(ground, { from: "agent1", to, ...options });
        return received / sent;
      }));
    assert.deepEqual(await pings({}), [1, 1]);
    assert.deepEqual(await pings({ packetSize: 20_000 }), [1, 1]);
    await connector.stop({ signal: "SIGKILL" });
    assert.deepEqual(await pings({ count: 2 }), [0, 0]);
    await eventually(() => curl("/get", "--connect-timeout", "1").then(() => false, () => true));
  });
});

type Addresses = readonly [ipv4: string, ipv6: string];

async function make(ground: ServiceGround, name: string): Promise<Addresses> {
  const { json } = await ground.api("GET", `/services/${await ground.service({ name })}`);
  const { virtualAddresses: { ipv4, ipv6 } } = json as {
    virtualAddresses: { readonly ipv4: string; readonly ipv6: string };
  };
  return [ipv4, ipv6];
}

function repeated(bytes: Uint8Array, times: number): Uint8Array {
  const whole = new Uint8Array(bytes.length * times);
  for (let i = 0; i < times; i++) whole.set(bytes, i * bytes.length);
  return whole;
}

function script(name: string, args: readonly string[] = []): string[] {
  const path = new URL(`../support/${name}`, import.meta.url).pathname;
  return [Deno.execPath(), "run", "--quiet", "--no-check", "--allow-all", "--unstable-net", path, ...args];
}
