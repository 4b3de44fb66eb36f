/** The example files in config/ load, and their policy grants what its comments say. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { loadConfig } from "../../src/config/parse_config.ts";
import { loadPolicy } from "../../src/config/policy_file.ts";
import { compilePolicy } from "../../src/core/policy/snapshot.ts";

const FOLDER = fileURLToPath(new URL("../../config", import.meta.url));

for (const mode of ["relay", "connector", "agent"]) {
  Deno.test(`config/${mode}.json loads`, async () => {
    const config = await loadConfig(`${FOLDER}/${mode}.json`);
    assert.equal(config.mode, mode);
    assert.ok(config.identity.startsWith(`${FOLDER}/identities/`));
  });
}

Deno.test("config/policy.yaml and the S0 example grant what they say, together without warnings", async () => {
  const document = await loadPolicy([`${FOLDER}/policy.yaml`, `${FOLDER}/rtmx-sync-access.json`]);
  const snapshot = compilePolicy(document, { trustDomain: "d" });
  assert.deepEqual(snapshot.warnings, []);
  const allows = (id: string) =>
    ["rtmx-sync", "postgres"].flatMap((service) => [
      ...(snapshot.mayDial(`spiffe://d/${id}`, service).verdict === "allow" ? [`dial ${service}`] : []),
      ...(snapshot.mayBind(`spiffe://d/${id}`, service).verdict === "allow" ? [`bind ${service}`] : []),
    ]);
  assert.deepEqual(allows("agent/alice"), ["dial rtmx-sync", "dial postgres"]);
  assert.deepEqual(allows("connector/rtmx-host"), ["bind rtmx-sync", "bind postgres"]);
  assert.deepEqual(allows("agent/bob"), []);
  assert.deepEqual(allows("user/alice"), []);
});
