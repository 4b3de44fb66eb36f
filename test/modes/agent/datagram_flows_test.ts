import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { utf8, utf8Decode } from "../../../src/base/bytes.ts";
import { FlowRefusedError } from "../../../src/dataplane/errors.ts";
import { DatagramFlows } from "../../../src/modes/agent/datagram_flows.ts";
import { eventually } from "../../support/eventually.ts";
import { EchoNetwork } from "./datagram_upstream.ts";

const TARGET = { service: "dns", port: 53, protocol: "udp" } as const;

function makeFlows(network: EchoNetwork, maxFlows = 4): DatagramFlows {
  return new DatagramFlows({ connect: network.connect, logger: SILENT_LOGGER, maxFlows });
}

Deno.test("datagrams that come while the flow opens wait for it, the newest beyond sixteen do not", async () => {
  const network = new EchoNetwork();
  const opened = Promise.withResolvers<void>();
  network.gate = opened.promise;
  const flows = makeFlows(network);
  const got: string[] = [];
  const buffer = new Uint8Array(2);
  for (let i = 0; i < 20; i++) {
    // The same bytes again: what waits must be a copy.
    buffer.set(utf8(String.fromCharCode(65 + i, 65 + i)));
    flows.send("a", buffer, () => ({ target: TARGET, receive: (payload) => got.push(utf8Decode(payload)) }));
  }
  opened.resolve();
  await eventually(() => got.length === 16);
  assert.deepEqual(got.slice(0, 2), ["dns:AA", "dns:BB"]);
  assert.equal(got.at(-1), "dns:PP");
  assert.equal(network.flows.length, 1);
  flows.close();
  assert.equal(network.flows[0]!.isOpen, false);
});

Deno.test("a flow that ends is opened anew by the next datagram", async () => {
  const network = new EchoNetwork();
  const flows = makeFlows(network);
  let got = 0;
  const send = () => flows.send("a", utf8("x"), () => ({ target: TARGET, receive: () => got++ }));
  send();
  await eventually(() => got === 1);
  network.flows[0]!.close();
  await eventually(() => flows.size === 0);
  send();
  await eventually(() => got === 2);
  assert.equal(network.flows.length, 2);
  flows.close();
});

Deno.test("a refused client is not asked for again at once, whatever it sends", async () => {
  const network = new EchoNetwork();
  network.failure = new FlowRefusedError("denied");
  const flows = makeFlows(network);
  const send = () => flows.send("a", utf8("x"), () => ({ target: TARGET, receive: () => {} }));
  send();
  await network.gate;
  for (let i = 0; i < 1_000; i++) send();
  assert.equal(network.asked, 1);
  network.failure = undefined;
  await eventually(() => {
    send();
    return network.flows.length > 0;
  });
  flows.close();
});

Deno.test("clients beyond the bound get nothing, and closing while a flow opens leaves none behind", async () => {
  const network = new EchoNetwork();
  const opened = Promise.withResolvers<void>();
  network.gate = opened.promise;
  const flows = makeFlows(network, 2);
  for (const key of ["a", "b", "c"]) {
    flows.send(key, utf8("x"), () => ({ target: TARGET, receive: () => {} }));
  }
  assert.equal(flows.size, 2);
  assert.equal(network.asked, 2);
  flows.close();
  opened.resolve();
  await network.gate;
  assert.equal(flows.size, 0);
  await eventually(() => network.flows.every(({ isOpen }) => !isOpen));
  flows.send("d", utf8("x"), () => ({ target: TARGET, receive: () => {} }));
  assert.equal(network.asked, 2);
});
