/** Captured TCP against the real kernel: programs of this machine, and what they see. */

import assert from "node:assert/strict";
import { eventually } from "../../../support/eventually.ts";
import { testNeeding } from "../../../support/require_tool.ts";
import { CAPTURE_NEEDS, catalogueOf, onCaptureGround, refusal, virtual } from "./capture_ground.ts";

const WEB = virtual(100);

for (const version of [4, 6] as const) {
  testNeeding(
    CAPTURE_NEEDS,
    `a connection reaches its service over IPv${version}, both ways, to its end`,
    () =>
      onCaptureGround(async ({ network, capture }) => {
        const sent = new Uint8Array(3_000_000).map((_, index) => index * 31 >> 3);
        using conn = await Deno.connect({ hostname: WEB[version], port: 8_080 });
        assert.equal(conn.remoteAddr.hostname, WEB[version]);
        const [arrived] = await Promise.all([new Response(conn.readable).bytes(), send(conn, sent)]);
        assert.deepEqual(arrived, sent);
        assert.deepEqual(network.asked, [{ service: "web", port: 8_080 }]);
        await eventually(() => capture.status.tcp === 0);
      }),
  );
}

testNeeding(CAPTURE_NEEDS, "what a program asks for decides where its connection goes", () => {
  const catalogue = catalogueOf([
    {
      service: "api",
      intercept: { addresses: ["192.0.2.0/24"], portRanges: [{ low: 80, high: 90 }], protocols: ["tcp"] },
    },
    { service: "web" },
  ]);
  return onCaptureGround(async ({ network }) => {
    for (
      const [hostname, port] of [["192.0.2.7", 81], [virtual(101)[4], 1], [virtual(101)[6], 65_535]] as const
    ) {
      (await Deno.connect({ hostname, port })).close();
    }
    assert.deepEqual(network.asked, [
      { service: "api", port: 81, address: "192.0.2.7" },
      { service: "web", port: 1 },
      { service: "web", port: 65_535 },
    ]);
    await assert.rejects(Deno.connect({ hostname: "192.0.2.7", port: 91 }), Deno.errors.ConnectionRefused);
    assert.equal(network.asked.length, 3);
  }, { catalogue });
});

for (const version of [4, 6] as const) {
  testNeeding(
    CAPTURE_NEEDS,
    `a program learns at once why there is no connection over IPv${version}`,
    () =>
      onCaptureGround(async ({ network, capture }) => {
        const hostname = WEB[version];
        network.connect = () => Promise.reject(refusal("upstream-refused"));
        await assert.rejects(Deno.connect({ hostname, port: 80 }), /refused/i);
        network.connect = () => Promise.reject(refusal("upstream-unreachable"));
        await assert.rejects(Deno.connect({ hostname, port: 80 }), /No route to host|unreachable/i);
        network.connect = () => Promise.reject(refusal("denied"));
        await assert.rejects(Deno.connect({ hostname, port: 80 }), /No route to host|ermission|unreachable/i);
        await assert.rejects(
          Deno.connect({ hostname: virtual(999)[version], port: 80 }),
          /No route to host|ermission|unreachable/i,
        );
        assert.equal(network.asked.length, 3);
        assert.equal(capture.status.tcp, 0);
      }),
  );
}

testNeeding(
  CAPTURE_NEEDS,
  "a slow network is asked once, however often the kernel sends the SYN",
  () =>
    onCaptureGround(async ({ ground, network }) => {
      const { connect } = network;
      const gate = Promise.withResolvers<void>();
      network.connect = async (target, signal) => {
        await gate.promise;
        return await connect(target, signal);
      };
      const connecting = Deno.connect({ hostname: WEB[4], port: 80 });
      await eventually(async () =>
        /timer:\(on,[^,]+,1\)/.test(await ground.shell("ss -Htno state syn-sent"))
      );
      gate.resolve();
      (await connecting).close();
      assert.equal(network.asked.length, 1);
    }),
);

testNeeding(
  CAPTURE_NEEDS,
  "a reset crosses in both directions",
  () =>
    onCaptureGround(async ({ network, capture }) => {
      const { connect } = network;
      const flows: { abort(reason?: unknown): void; read(): Promise<unknown> }[] = [];
      network.connect = async (target, signal) => {
        const flow = await connect(target, signal);
        flows.push(flow);
        return flow;
      };
      using conn = await Deno.connect({ hostname: WEB[4], port: 80 });
      await eventually(() => flows[0]);
      await send1(conn);
      flows[0]!.abort(new Error("far end"));
      await assert.rejects(drain(conn), /reset/i);
      await eventually(() => capture.status.tcp === 0);
    }),
);

testNeeding(
  CAPTURE_NEEDS,
  "only captured connections are served at the listener",
  () =>
    onCaptureGround(async ({ ground, network }) => {
      const ports = (await ground.shell("ss -Htln")).matchAll(/10\.101\.0\.2:(\d+)/g);
      const [port] = [...ports].map(([, text]) => Number(text));
      assert.ok(port);
      await assert.rejects(async () => {
        using conn = await Deno.connect({ hostname: "10.101.0.2", port });
        await drain(conn);
      }, /reset/i);
      assert.equal(network.asked.length, 0);
    }),
);

testNeeding(CAPTURE_NEEDS, "packets of other machines begin no flow unless they may", async () => {
  for (const allowRemoteClients of [false, true]) {
    await onCaptureGround(async ({ ground, network }) => {
      await ground.shell("echo 1 > /proc/sys/net/ipv4/ip_forward");
      await ground.shell("ip route add 10.101.0.0/16 via 10.77.0.1", "far");
      const result = await ground.shell(
        `timeout 2 bash -c 'exec 3<>/dev/tcp/${WEB[4]}/80; echo hi >&3; head -n1 <&3' || echo none`,
        "far",
      );
      assert.equal(result.trim(), allowRemoteClients ? "hi" : "none");
      assert.equal(network.asked.length, allowRemoteClients ? 1 : 0);
    }, { allowRemoteClients });
  }
});

testNeeding(
  CAPTURE_NEEDS,
  "hundreds of connections at once and one after the other",
  () =>
    onCaptureGround(async ({ network, capture }) => {
      const one = async (index: number) => {
        using conn = await Deno.connect({ hostname: WEB[index % 2 ? 4 : 6], port: 1 + index });
        const sent = new TextEncoder().encode(`connection ${index}`);
        const [arrived] = await Promise.all([new Response(conn.readable).bytes(), send(conn, sent)]);
        assert.deepEqual(arrived, sent);
      };
      for (let round = 0; round < 5; round++) {
        await Promise.all(Array.from({ length: 100 }, (_, index) => one(index)));
      }
      assert.equal(network.asked.length, 500);
      await eventually(() => capture.status.tcp === 0);
    }),
);

testNeeding(
  CAPTURE_NEEDS,
  "the resolver answers over TCP, and has no other port",
  () =>
    onCaptureGround(async ({ network, capture }) => {
      for (const hostname of ["10.101.0.1", virtual(1)[6]]) {
        using conn = await Deno.connect({ hostname, port: 53 });
        await conn.write(new Uint8Array([0, 3, 1, 2, 3, 0]));
        await conn.write(new Uint8Array([2, 8, 9]));
        await conn.closeWrite();
        assert.deepEqual([...await drain(conn)], [0, 3, 3, 2, 1, 0, 2, 9, 8]);
        await assert.rejects(Deno.connect({ hostname, port: 54 }), Deno.errors.ConnectionRefused);
      }
      assert.equal(network.asked.length, 0);
      await eventually(() => capture.status.tcp === 0);
    }),
);

async function send(conn: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
  await conn.closeWrite();
}

async function send1(conn: Deno.TcpConn): Promise<void> {
  await conn.write(new Uint8Array(1));
  await conn.read(new Uint8Array(1));
}

async function drain(conn: Deno.TcpConn): Promise<Uint8Array> {
  const buffer = new Uint8Array(4_096);
  let size = 0;
  for (let count = await conn.read(buffer); count !== null; count = await conn.read(buffer.subarray(size))) {
    size += count;
  }
  return buffer.slice(0, size);
}
