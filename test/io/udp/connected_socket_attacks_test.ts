/** Who is not the upstream, on the network between: whatever address he takes for his own but the upstream's. */

import assert from "node:assert/strict";
import { withDeadline } from "../../../src/base/async.ts";
import { connectUdp } from "../../../src/io/udp/connected_socket.ts";
import { udp } from "../../dataplane/tunnel/packets.ts";
import { RawSender } from "../../support/raw_socket.ts";
import { testNeeding } from "../../support/require_tool.ts";
import { sealed } from "../../support/tunnel_packets.ts";
import { NEEDS, onGround, udp as socketAt } from "../network/ground.ts";

for (
  const { near, far, others } of [
    { near: "10.77.0.1", far: "10.77.0.2", others: ["10.77.0.3", "127.0.0.1", "10.77.0.1", "192.0.2.1"] },
    { near: "fd77::1", far: "fd77::2", others: ["fd77::3", "::1", "fd77::1", "2001:db8::1"] },
  ]
) {
  testNeeding(
    NEEDS,
    `answers from other addresses or ports than the upstream's are not heard: ${far}`,
    () =>
      onGround(async (ground) => {
        using upstream = socketAt(ground, "far", { hostname: far, port: 7 });
        using attacker = ground.at("far", () => new RawSender());
        const client = connectUdp([{ address: far, port: 7 }]);
        const got: string[] = [];
        const heard = Promise.withResolvers<void>();
        client.receive((payload) => {
          got.push(new TextDecoder().decode(payload));
          heard.resolve();
        });
        assert.ok(client.send(new Uint8Array([1]), 0, 1));
        const [, from] = await withDeadline(5_000, () => upstream.receive());
        const { port } = from as Deno.NetAddr;
        const data = new TextEncoder().encode("forged");
        const forge = (src: string, srcPort: number, dstPort: number) =>
          attacker.send(sealed(udp({ src, dst: near, srcPort, dstPort, data })));
        for (const src of others) forge(src, 7, port);
        for (const srcPort of [0, 6, 8, 53]) forge(far, srcPort, port);
        forge(far, 7, port ^ 1);
        await upstream.send(new TextEncoder().encode("true"), from);
        await withDeadline(5_000, () => heard.promise);
        assert.deepEqual(got, ["true"]);
        client.abort();
      }),
  );
}
