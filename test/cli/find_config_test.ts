import assert from "node:assert/strict";
import { configOfIdentity, configPlaces, findConfig, requireConfig } from "../../src/cli/find_config.ts";
import { UsageError } from "../../src/cli/command.ts";
import { servicesOf } from "../../src/config/schema/agent.ts";
import { fileOf, makeDemoFolder } from "./demo_folder.ts";

Deno.test("a config is looked for in the system's, the user's and this folder, in that order", () => {
  const places = (variables: Readonly<Record<string, string>>) => configPlaces((name) => variables[name]);
  assert.deepEqual(places({ HOME: "/home/u" }), [
    "/etc/ginnel/config.json",
    "/home/u/.config/ginnel/config.json",
    "./ginnel.json",
  ]);
  assert.equal(places({ HOME: "/home/u", XDG_CONFIG_HOME: "/cfg" })[1], "/cfg/ginnel/config.json");
  assert.deepEqual(places({}), ["/etc/ginnel/config.json", "./ginnel.json"]);
});

Deno.test("the first config there is is taken; none at all is a mistake that names the places", async () => {
  const folder = await Deno.makeTempDir();
  const places = ["first", "second", "third"].map((name) => `${folder}/${name}.json`);
  assert.equal(await findConfig(places), undefined);
  await assert.rejects(requireConfig(places), (error) => {
    return error instanceof UsageError && places.every((place) => error.message.includes(place));
  });
  for (const index of [2, 1]) {
    await Deno.writeTextFile(places[index]!, "{}");
    assert.equal(await findConfig(places), places[index]);
  }
});

Deno.test("an agent's identity alone makes an agent with all services; a relay's does not", async () => {
  const demo = await makeDemoFolder();
  const { identity } = JSON.parse(await Deno.readTextFile(demo.agentConfig));
  const config = await configOfIdentity(fileOf(demo, identity));
  assert.equal(config.mode, "agent");
  assert.ok(config.mode === "agent" && servicesOf(config)?.autoForward === "auto");
  await assert.rejects(configOfIdentity(fileOf(demo, "relay-1.json")), UsageError);
});
