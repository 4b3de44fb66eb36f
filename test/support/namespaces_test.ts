/** Tests of the throw-away networks: hosts reach one another, and nothing is left behind. */

import assert from "node:assert/strict";
import { Network } from "./namespaces.ts";
import { ManagedProcess, runCommand } from "./processes.ts";
import { needsNetworkNamespaces, testNeeding } from "./require_tool.ts";

testNeeding(
  [needsNetworkNamespaces()],
  "Network joins hosts and removes them with their processes",
  async () => {
    const network = await Network.create(["left", "right"]);
    const left = network.host("left"), right = network.host("right");
    const listen =
      `const l = Deno.listen({ hostname: "${right.address}", port: 0 }); console.log("port " + l.addr.port);` +
      `for await (const c of l) { await c.write(new TextEncoder().encode("hi from " + c.remoteAddr.hostname)); c.close(); }`;
    const server = ManagedProcess.spawn(right.command([Deno.execPath(), "eval", listen]));
    const [, port] = await server.waitForLine(/^port (\d+)$/);
    const fetch =
      `for await (const b of (await Deno.connect({ hostname: "${right.address}", port: ${port} })).readable) console.log(new TextDecoder().decode(b))`;
    assert.equal(
      await runCommand(left.command([Deno.execPath(), "eval", fetch])),
      `hi from ${left.address}\n`,
    );

    await network[Symbol.asyncDispose]();
    assert.equal((await server.ended).success, false);
    const left_over = (await runCommand(["ip", "netns", "list"])).includes(left.namespace);
    assert.equal(left_over, false);
  },
);

testNeeding(
  [needsNetworkNamespaces()],
  "Network.create() removes namespaces of a maker that has ended",
  async () => {
    const gone = new Deno.Command("true").spawn();
    await gone.status;
    const stale = `gnl-${gone.pid}-0-old`;
    await runCommand(["ip", "netns", "add", stale]);
    await using _network = await Network.create(["only"]);
    assert.equal((await runCommand(["ip", "netns", "list"])).includes(stale), false);
  },
);
