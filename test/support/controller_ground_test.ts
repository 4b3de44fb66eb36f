/** The ground itself: without this, a test that fails on it would say nothing about the product. */

import assert from "node:assert/strict";
import { ControllerGround } from "./controller_ground.ts";
import { PROGRAM } from "./deployment.ts";
import { askName, NamedUpstream } from "./named_upstream.ts";
import { needsPostgres, PostgresServer } from "./postgres.ts";
import { runCommand } from "./processes.ts";
import { testNeeding } from "./require_tool.ts";

Deno.test("a ground has a controller, enrols nodes by the command line, and carries a flow", async () => {
  await using ground = await ControllerGround.create();
  using upstream = new NamedUpstream("reached");
  await ground.open(["web"]);
  const relay = await ground.relay();
  await ground.connector({ services: { web: upstream.upstream } });
  const agent = await ground.agent({ forwards: ["web"] });
  assert.equal(await askName(agent.forward("web")), "reached");
  assert.equal((await relay.audit()).filter(({ event }) => event === "connect").length, 1);
  const { path } = await ground.enrol("agent", "bob");
  const shown = await runCommand([...PROGRAM, "identity", "show", path, "--json"]);
  assert.deepEqual(JSON.parse(shown).services, { dial: ["web"], bind: ["web"] });
  const { json } = await ground.api("GET", "/identities?type=agent");
  assert.deepEqual((json as { data: { name: string }[] }).data.map(({ name }) => name), ["alice", "bob"]);
});

Deno.test("a killed controller of a ground comes back with what it knew", async () => {
  await using ground = await ControllerGround.create();
  await ground.make("/services", { name: "web" });
  const [controller] = ground.controllers;
  await controller!.kill();
  await controller!.start();
  const { status, json } = await ground.api("GET", "/services");
  assert.equal(status, 200);
  assert.deepEqual((json as { data: { name: string }[] }).data.map(({ name }) => name), ["web"]);
});

Deno.test("a relay that embeds its controller is a network of one process", async () => {
  await using ground = await ControllerGround.create({ embedded: true });
  using upstream = new NamedUpstream("reached");
  await ground.open(["web"]);
  await ground.connector({ services: { web: upstream.upstream } });
  const agent = await ground.agent({ forwards: ["web"] });
  assert.equal(await askName(agent.forward("web")), "reached");
});

testNeeding([needsPostgres()], "two controllers on one PostgreSQL are one network", async () => {
  await using server = await PostgresServer.start();
  const url = await server.createDatabase();
  await using ground = await ControllerGround.create({ database: { kind: "postgres", url }, controllers: 2 });
  const [first, second] = ground.controllers;
  const made = await first!.request({
    method: "POST",
    path: "/services",
    token: ground.token,
    body: { name: "web" },
  });
  assert.equal(made.status, 201);
  const { json } = await second!.request({ path: "/services", token: ground.token });
  assert.deepEqual((json as { data: { name: string }[] }).data.map(({ name }) => name), ["web"]);
  await first!.kill();
  assert.equal((await ground.api("GET", "/services")).status, 200);
});
