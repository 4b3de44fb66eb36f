/** What `ginnel check` says of hosting. */

import assert from "node:assert/strict";
import { inspectHosting } from "../../src/cli/inspect_hosting.ts";
import { connectorSchema } from "../../src/config/schema/connector.ts";

function inspect(allow?: readonly string[]) {
  return inspectHosting(connectorSchema.parse({
    mode: "connector",
    identity: "connector.json",
    services: [{ name: "web", upstream: "unix:/x" }],
    ...(allow === undefined ? {} : { hosting: { allow } }),
  }));
}

Deno.test("hosting that reaches the cloud's metadata is warned of", () => {
  for (const text of ["0.0.0.0/0", "169.254.0.0/16:80", "[fd00::/8]:1-100"]) {
    const [finding] = inspect(["10.0.0.0/8", text]);
    assert.equal(finding?.verdict, "warn", text);
    assert.ok(
      finding.text.endsWith(`; ${text} includes cloud metadata with this machine's credentials`),
      finding.text,
    );
  }
});

Deno.test("what hosting allows is listed, and that it is off is said", () => {
  assert.deepEqual(inspect(["10.0.0.0/8", "*.Corp.example:443", "169.254.169.254:8080"]), [{
    verdict: "ok",
    subject: "hosting",
    text: "administrators may offer 10.0.0.0/8, *.corp.example:443, 169.254.169.254:8080",
  }]);
  assert.deepEqual(inspect().map(({ verdict, text }) => [verdict, text]), [
    ["ok", "off: only the services of this config are offered"],
  ]);
});
