/** Services on loopback addresses, on a machine where nothing may be captured. */

import assert from "node:assert/strict";
import { utf8, utf8Decode } from "../../src/base/bytes.ts";
import { statusCommand } from "../../src/cli/status.ts";
import type { AgentStatus } from "../../src/modes/agent/agent_status.ts";
import { Printed } from "../cli/demo_folder.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/free_port.ts";
import { Network, spiffeId } from "../support/network.ts";
import { UdpSocket } from "../support/udp_socket.ts";

/** The policy of every step: `granted` services of two, each with one port. */
function policy(ports: Readonly<Record<string, number>>, granted: readonly string[]) {
  return {
    services: Object.entries(ports).map(([name, port]) => ({
      name,
      intercept: {
        addresses: [`${name}.example`],
        portRanges: [{ low: port, high: port }],
        protocols: ["tcp", "udp"],
      },
    })),
    servicePolicies: [
      {
        name: "dial",
        type: "Dial",
        semantic: "AnyOf",
        identityRoles: ["@agent/alice"],
        serviceRoles: granted.map((name) => `@${name}`),
      },
      {
        name: "bind",
        type: "Bind",
        semantic: "AnyOf",
        identityRoles: ["@connector/connector-1"],
        serviceRoles: ["#all"],
      },
    ],
  };
}

Deno.test("without a privilege, services are at addresses of 127.0.0.0/8, and come and go with the policy", async () => {
  await using network = await Network.create({ services: [{ name: "web" }, { name: "echo" }] });
  const ports = { web: freePort(), echo: freePort() };
  await network.writePolicy(policy(ports, ["web"]));
  const relay = await network.relay();
  await using site = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response("web"),
  );
  using echo = new UdpSocket();
  void (async () => {
    try {
      for await (const { bytes, from } of echo.datagrams()) await echo.send(bytes, from);
    } catch {
      // Closed with the test.
    }
  })();
  await network.connector({
    relays: [relay],
    services: {
      web: `tcp://127.0.0.1:${site.addr.port}`,
      echo: `udp://127.0.0.1:${echo.address.port}`,
    },
  });
  const control = `${network.folder}/alice.sock`;
  await network.agent({
    relays: [relay],
    config: { control: `unix:${control}`, services: { capture: false } },
  });

  const status = async (): Promise<AgentStatus> => {
    const io = new Printed();
    await statusCommand(["--socket", control, "--json"], io);
    return JSON.parse(io.out);
  };
  const web = await eventually(async () => (await status()).services.find(({ name }) => name === "web"));
  assert.equal(await (await fetch(`http://${web.addresses.local}:${ports.web}/`)).text(), "web");

  await network.writePolicy(policy(ports, ["echo"]));
  const changed = performance.now();
  await relay.reload();
  // Until it has an address here nobody listens, and a note says which port is not listened on yet.
  const found = await eventually(async () =>
    (await status()).services.find(({ name, addresses, notes }) =>
      name === "echo" && addresses.local !== undefined && notes.length === 0
    )
  );
  const took = performance.now() - changed;
  assert.ok(took < 1_500, `the list followed after ${took} ms`);
  await assert.rejects(fetch(`http://${web.addresses.local}:${ports.web}/`));

  using client = new UdpSocket();
  await client.send(utf8("hello"), { hostname: found.addresses.local!, port: ports.echo });
  assert.equal(utf8Decode(await client.receive()), "hello");
  const used = await eventually(async () => (await status()).services.find(({ flows }) => flows === 1));
  assert.equal(used.path?.connector, spiffeId("connector", "connector-1"));
});
