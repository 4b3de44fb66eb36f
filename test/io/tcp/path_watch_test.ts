import assert from "node:assert/strict";
import { watchPath } from "../../../src/io/tcp/path_watch.ts";
import { Network } from "../../support/namespaces.ts";
import { ManagedProcess, runCommand } from "../../support/processes.ts";
import { needsNetworkNamespaces, testNeeding } from "../../support/require_tool.ts";

if (import.meta.main) {
  // On a host of its own: connects, never stops to speak, and tells when the path is gone.
  const conn = await Deno.connect({ hostname: Deno.args[0]!, port: 9 });
  watchPath({ conn, onGone: () => console.log("gone") });
  console.log("connected");
  for (;;) await conn.write(new Uint8Array(100));
}

testNeeding(
  [needsNetworkNamespaces()],
  "a path is gone when nothing is acknowledged for some seconds",
  async () => {
    await using network = await Network.create(["here", "there"]);
    const [here, there] = [network.host("here"), network.host("there")];
    await using server = ManagedProcess.spawn(there.command([
      ...[Deno.execPath(), "eval", "--quiet"],
      'const l = Deno.listen({ port: 9 }); console.log("ready"); for await (const c of l) c.readable.pipeTo(new WritableStream());',
    ]));
    await server.waitForLine(/ready/);
    const script = new URL(import.meta.url).pathname;
    await using client = ManagedProcess.spawn(
      here.command([Deno.execPath(), "run", "--quiet", "--no-check", "-A", script, there.address]),
    );
    await client.waitForLine(/connected/);
    await runCommand(here.command(["ip", "addr", "replace", "10.77.0.99/24", "dev", "eth0"]));
    await runCommand(here.command(["ip", "addr", "del", `${here.address}/24`, "dev", "eth0"]));
    const changed = performance.now();
    await client.waitForLine(/gone/, { timeoutMs: 30_000 });
    assert.ok(performance.now() - changed > 3_000);
  },
);
