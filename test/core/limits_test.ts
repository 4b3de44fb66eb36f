/** The default limits hang together: an inner bound that exceeds its outer one would never be reached. */

import assert from "node:assert/strict";
import { DEFAULT_RELAY_LIMITS as LIMITS } from "../../src/core/limits.ts";

Deno.test("default limits nest", () => {
  assert.ok(LIMITS.maxUnauthenticatedConnections < LIMITS.maxConnections);
  assert.ok(LIMITS.maxConnectionsPerIdentity < LIMITS.maxConnections, "one identity must not fill a relay");
  assert.ok(
    LIMITS.maxFlowsPerIdentity <= LIMITS.maxConnectionsPerIdentity,
    "the TLS carrier has a connection a flow",
  );
  assert.ok(LIMITS.unauthenticatedTimeout < LIMITS.idleTimeout);
});
