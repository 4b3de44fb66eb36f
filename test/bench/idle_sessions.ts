/**
 * What an idle agent costs the relay: its memory before and after a thousand authenticated sessions open, each
 * a connection of its own with its view stream, made by one process that speaks as an agent does.
 */

import { RELAY_NAME, RELAY_PORT } from "../support/deployment.ts";
import { ManagedProcess } from "../support/processes.ts";
import { type Measurement, rowOf } from "./measurement.ts";
import type { Target } from "./report.ts";

const SESSIONS = 1_000;
/** Time for the relay to finish what opening them started. */
const SETTLE_MS = 5_000;
const OPEN_TIMEOUT_MS = 120_000;

/** Kilobytes (10^3 bytes) of relay memory per idle session. */
export function idleSessionsRow(name: string, target: Target): Measurement {
  return {
    name,
    measure: async ({ network, product }) => {
      if (product === undefined) throw new Error("Cannot measure idle sessions without the product");
      const relay = product.node("relay");
      const identity = await product.deployment.issue("agent", "idle-agents");
      await settle();
      const before = relay.usage().rssBytes;
      const client = network.host("client");
      await using agents = ManagedProcess.spawn(
        client.command([
          Deno.execPath(),
          ...[
            "run",
            "--quiet",
            "--allow-all",
            "--unstable-net",
            new URL("./idle_agents.ts", import.meta.url).pathname,
          ],
          ...[identity, RELAY_NAME, `${network.host("relay").address}:${RELAY_PORT}`, `${SESSIONS}`],
        ]),
        { name: "idle_agents" },
      );
      await agents.waitForLine(/^open$/, { timeoutMs: OPEN_TIMEOUT_MS });
      await settle();
      const { rssBytes, peakRssBytes } = relay.usage();
      const perSession = (rssBytes - before) / SESSIONS / 1e3;
      const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;
      return {
        ...rowOf(name, { unit: "kB", runs: [perSession], target }),
        note: `${SESSIONS} sessions: ${megabytes(before)} before, ${megabytes(rssBytes)} after, peak ${
          megabytes(peakRssBytes)
        }`,
      };
    },
  };
}

function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
}
