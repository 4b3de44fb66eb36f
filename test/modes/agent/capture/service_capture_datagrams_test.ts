/** Captured UDP and ping against the real kernel. */

import assert from "node:assert/strict";
import { eventually } from "../../../support/eventually.ts";
import { testNeeding } from "../../../support/require_tool.ts";
import {
  CAPTURE_NEEDS,
  catalogueOf,
  onCaptureGround,
  refusal,
  TestDatagrams,
  virtual,
} from "./capture_ground.ts";

const WEB = virtual(100);
const LOCAL = { 4: "0.0.0.0", 6: "::" } as const;

for (const version of [4, 6] as const) {
  testNeeding(
    CAPTURE_NEEDS,
    `datagrams of every size cross whole and in order over IPv${version}`,
    () =>
      onCaptureGround(async ({ network }) => {
        using socket = udp(LOCAL[version]);
        const to = { transport: "udp", hostname: WEB[version], port: 5_000 } as const;
        for (const size of [0, 1, 2, 3, 1_199, 1_200, 1_473, 9_001, version === 4 ? 65_507 : 65_487]) {
          const sent = new Uint8Array(size).map((_, index) => index * 7);
          await socket.send(sent, to);
          const [arrived, from] = await socket.receive(new Uint8Array(65_535));
          assert.deepEqual(arrived, sent);
          assert.deepEqual({ ...from }, to, "answers come from where the question went");
        }
        assert.deepEqual(network.asked, [{ service: "web", port: 5_000, protocol: "udp" }], "one flow");
        using other = udp(LOCAL[version]);
        await other.send(new Uint8Array(1), to);
        await other.receive();
        await socket.send(new Uint8Array(1), { ...to, port: 5_001 });
        await socket.receive();
        assert.equal(network.asked.length, 3, "a flow for each socket and each port");
      }),
  );

  testNeeding(
    CAPTURE_NEEDS,
    `a refused datagram is told to its program over IPv${version}, and asked anew later`,
    () =>
      onCaptureGround(async ({ ground, network }) => {
        network.connectDatagrams = () => Promise.reject(refusal("upstream-refused"));
        const knock = (target: string, port: number) =>
          ground.shell(
            `bash -c 'exec 3<>/dev/udp/${target}/${port}; echo hi >&3; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.05; echo again >&3 || exit 0; done' 2>&1`,
          );
        assert.match(await knock(WEB[version], 80), /refused/);
        assert.equal(network.asked.length, 1, "the refusal is remembered for a moment");
        network.connectDatagrams = () => Promise.reject(refusal("denied"));
        assert.match(await knock(WEB[version], 81), /No route|ermission|unreachable/);
        assert.match(await knock(virtual(999)[version], 82), /No route|ermission|unreachable/);
        network.connectDatagrams = () => Promise.resolve(new TestDatagrams());
        await eventually(async () => !/refused/.test(await knock(WEB[version], 80)));
      }),
  );

  testNeeding(
    CAPTURE_NEEDS,
    `ping is answered by the far end over IPv${version}, and fails without it`,
    () =>
      onCaptureGround(async ({ ground, network }) => {
        const ping = (target: string, more = "") =>
          ground.shell(`ping -n -c 3 -i 0.01 -W 1 ${more} ${target} || true`);
        assert.match(await ping(WEB[version]), /3 received, 0% packet loss/);
        assert.match(await ping(WEB[version], "-s 1400"), /3 received, 0% packet loss/);
        assert.deepEqual(network.asked[0], { service: "web", protocol: "icmp" });
        assert.equal(network.asked.length, 2, "one flow for each program");
        const [first] = network.flows[0]!.sent;
        assert.equal(first!.length, 4 + 56);
        network.connectDatagrams = () => Promise.resolve(new TestDatagrams({ echoes: false }));
        assert.match(await ping(WEB[version]), / 0 received/);
        network.connectDatagrams = () => Promise.reject(refusal("upstream-unreachable"));
        assert.match(await ping(WEB[version]), /unreachable/i);
        assert.match(await ping(virtual(1)[version]), /3 received/);
        const count = network.asked.length;
        assert.match(await ping(virtual(999)[version]), / 0 received/);
        assert.equal(network.asked.length, count);
      }),
  );
}

testNeeding(
  CAPTURE_NEEDS,
  "a far end cannot answer another ping than that of its flow",
  () =>
    onCaptureGround(async ({ ground, network }) => {
      network.connectDatagrams = () => {
        const flow = new TestDatagrams({ echoes: false });
        flow.send = (bytes, start, end) => {
          const forged = bytes.slice(start, end);
          forged[0]! ^= 1;
          flow.answer(forged);
          flow.answer(forged.subarray(0, 3));
          flow.answer(new Uint8Array(0));
          flow.answer(new Uint8Array(65_535));
          return true;
        };
        return Promise.resolve(flow);
      };
      assert.match(await ground.shell(`ping -n -c 2 -i 0.01 -W 1 ${WEB[4]} || true`), / 0 received/);
    }),
);

testNeeding(
  CAPTURE_NEEDS,
  "the first datagrams wait for their flow, sixteen of them",
  () =>
    onCaptureGround(async ({ ground, network }) => {
      const gate = Promise.withResolvers<void>();
      network.connectDatagrams = async () => {
        await gate.promise;
        return new TestDatagrams();
      };
      using socket = udp(LOCAL[4]);
      for (let index = 0; index < 20; index++) {
        await socket.send(new Uint8Array([index]), { transport: "udp", hostname: WEB[4], port: 5_000 });
      }
      await eventually(() => network.asked.length === 1);
      // Answered by capture itself, behind all that was sent before.
      await ground.shell(`ping -n -c 1 10.101.0.1`);
      gate.resolve();
      const arrived: number[] = [];
      for (let index = 0; index < 16; index++) arrived.push((await socket.receive())[0][0]!);
      assert.deepEqual(arrived, [...Array(16).keys()]);
      assert.equal(network.flows[0]!.sent.length, 16);
    }),
);

testNeeding(
  CAPTURE_NEEDS,
  "a full flow holds the device up for a moment, then its datagrams are dropped and others pass",
  () =>
    onCaptureGround(async ({ network }) => {
      using socket = udp(LOCAL[4]);
      const to = { transport: "udp", hostname: WEB[4], port: 5_000 } as const;
      await socket.send(new Uint8Array([0]), to);
      await socket.receive();
      const [flow] = network.flows;
      flow!.room = 0;
      await socket.send(new Uint8Array([1]), to);
      using other = udp(LOCAL[4]);
      await other.send(new Uint8Array([7]), { ...to, port: 5_001 });
      assert.deepEqual([...(await other.receive())[0]], [7]);
      flow!.grant(Infinity);
      await eventually(async () => {
        await socket.send(new Uint8Array([2]), to);
        return flow!.sent.length > 1;
      });
    }),
);

testNeeding(
  CAPTURE_NEEDS,
  "a flow that ends is opened anew by the next datagram",
  () =>
    onCaptureGround(async ({ network, capture }) => {
      using socket = udp(LOCAL[4]);
      const to = { transport: "udp", hostname: WEB[4], port: 5_000 } as const;
      for (const end of [() => network.flows[0]!.close(), () => network.flows[1]!.fail(new Error("idle"))]) {
        await socket.send(new Uint8Array([1]), to);
        await socket.receive();
        end();
        await eventually(() => capture.status.datagrams === 0);
      }
      await socket.send(new Uint8Array([1]), to);
      await socket.receive();
      assert.equal(network.asked.length, 3);
    }),
);

testNeeding(
  CAPTURE_NEEDS,
  "the resolver answers at its own address, at once or later, and never as somebody else",
  () =>
    onCaptureGround(async ({ network }) => {
      for (const version of [4, 6] as const) {
        using socket = udp(LOCAL[version]);
        const to = { transport: "udp", hostname: virtual(1)[version], port: 53 } as const;
        for (
          const answerDns of [(query: Uint8Array) => query.toReversed(), (query: Uint8Array) =>
            later(query.toReversed())]
        ) {
          network.answerDns = answerDns;
          await socket.send(new Uint8Array([1, 2, 3]), to);
          const [answer, from] = await socket.receive();
          assert.deepEqual([...answer], [3, 2, 1]);
          assert.deepEqual({ ...from }, to);
        }
        network.answerDns = () =>
          Promise.reject(new Error("nobody knows"));
        await socket.send(new Uint8Array([1, 2, 3]), to);
      }
      assert.equal(network.asked.length, 0);
    }),
);

testNeeding(CAPTURE_NEEDS, "a service takes only its own protocols and ports", () => {
  const intercept = {
    addresses: ["198.51.100.1"],
    portRanges: [{ low: 53, high: 53 }],
    protocols: ["udp" as const],
  };
  return onCaptureGround(async ({ ground, network }) => {
    await assert.rejects(Deno.connect({ hostname: WEB[4], port: 53 }), Deno.errors.ConnectionRefused);
    using socket = udp(LOCAL[4]);
    await socket.send(new Uint8Array([1]), { transport: "udp", hostname: "198.51.100.1", port: 53 });
    await socket.receive();
    assert.deepEqual(network.asked, [{ service: "web", port: 53, address: "198.51.100.1", protocol: "udp" }]);
    assert.match(await ground.shell("ping -n -c 1 -W 1 198.51.100.1"), /1 received/);
  }, { catalogue: catalogueOf([{ service: "web", intercept }]) });
});

function later(answer: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve) => queueMicrotask(() => resolve(answer)));
}

function udp(hostname: string): Deno.DatagramConn & Disposable {
  const socket = Deno.listenDatagram({ transport: "udp", hostname, port: 0 });
  return Object.assign(socket, { [Symbol.dispose]: () => socket.close() });
}
