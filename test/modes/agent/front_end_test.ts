import assert from "node:assert/strict";
import { createLogger, SILENT_LOGGER } from "../../../src/base/log.ts";
import { type FrontEndOptions, startFrontEnd } from "../../../src/modes/agent/front_end.ts";

const OPTIONS = {
  listen: { hostname: "127.0.0.1", port: 0 },
  name: "test",
  logger: SILENT_LOGGER,
} as const satisfies Partial<FrontEndOptions>;

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

Deno.test("close() ends every client and frees the port", async () => {
  const frontEnd = startFrontEnd({ ...OPTIONS, handle: (_client, signal) => untilAborted(signal) });
  const { address } = frontEnd;
  const clients = await Promise.all([1, 2].map(() => Deno.connect(address)));
  const ended = clients.map((client) =>
    assert.rejects(client.read(new Uint8Array(1)), Deno.errors.ConnectionReset)
  );
  while (frontEnd.clients < 2) await new Promise((resolve) => queueMicrotask(() => resolve(Deno.stat("/"))));
  await frontEnd.close();
  await frontEnd.close();
  await Promise.all(ended);
  clients.forEach((client) => client.close());
  assert.equal(frontEnd.clients, 0);
  Deno.listen(address).close();
});

Deno.test("clients beyond the limit are reset, and places become free again", async () => {
  const served = Promise.withResolvers<void>();
  await using frontEnd = startFrontEnd({
    ...OPTIONS,
    maxClients: 1,
    handle: async (client) => {
      served.resolve();
      await client.read();
      await client.closeWrite();
    },
  });
  const first = await Deno.connect(frontEnd.address);
  await served.promise;
  const second = await Deno.connect(frontEnd.address);
  await assert.rejects(second.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
  second.close();
  await first.closeWrite();
  assert.equal(await first.read(new Uint8Array(1)), null);
  first.close();
  const third = await Deno.connect(frontEnd.address);
  await third.closeWrite();
  assert.equal(await third.read(new Uint8Array(1)), null);
  third.close();
});

Deno.test("a handler that fails is logged and costs nobody else", async () => {
  const lines: string[] = [];
  let isFirst = true;
  await using frontEnd = startFrontEnd({
    ...OPTIONS,
    logger: createLogger({ write: (line) => lines.push(line) }),
    handle: async (client) => {
      if (isFirst) {
        isFirst = false;
        throw new Error("Broken handler");
      }
      await client.write(Uint8Array.of(7));
      client.abort();
    },
  });
  const first = await Deno.connect(frontEnd.address);
  await assert.rejects(first.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
  first.close();
  const second = await Deno.connect(frontEnd.address);
  assert.equal(await second.read(new Uint8Array(1)), 1);
  second.close();
  assert.deepEqual(lines.map((line) => JSON.parse(line).event), ["listening", "client_failed"]);
});
