/** What `ginnel doctor` finds on a real network with a controller. */

import assert from "node:assert/strict";
import { doctorCommand } from "../../src/cli/doctor.ts";
import { Printed } from "../cli/demo_folder.ts";
import { ControllerGround } from "../support/controller_ground.ts";
import { eventually } from "../support/eventually.ts";

Deno.test("doctor finds relay and controller by the identity alone, the clock right, and a disabled identity refused", async () => {
  await using ground = await ControllerGround.create({ embedded: true });
  const { id, path } = await ground.enrol("agent", "alice");
  const config = `${ground.folder}/alice.config.json`;
  await Deno.writeTextFile(config, JSON.stringify({ mode: "agent", identity: path, socks5: "127.0.0.1:0" }));
  const look = async () => {
    const io = new Printed();
    return { code: await doctorCommand(["--config", config], io), out: io.out };
  };
  const well = await look();
  assert.equal(well.code, 0, well.out);
  assert.match(well.out, /ok +relay relay-1 +QUIC to \S+ works/);
  assert.match(well.out, /ok +controller controller-1 +https:\S+ answers 200, \d+ ms/);
  assert.match(well.out, /ok +clock +as controller-1's/);

  const { status } = await ground.api("POST", `/identities/${id}/disable`);
  assert.ok(status < 300, `${status}`);
  const refused = await eventually(async () => {
    const found = await look();
    return found.code === 1 && found;
  });
  assert.match(
    refused.out,
    /fail +relay relay-1 +QUIC to \S+: the relay refuses this identity\n +-> Check the clock/,
  );

  await ground.controllers[0]!.kill();
  const away = await look();
  assert.match(away.out, /warn +controller controller-1 +https:[^]*-> Services work without it/);
});
