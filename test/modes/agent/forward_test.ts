import assert from "node:assert/strict";
import { utf8, utf8Decode } from "../../../src/base/bytes.ts";
import { socketChannel } from "../../../src/io/tcp/socket_channel.ts";
import { handleForward } from "../../../src/modes/agent/forward.ts";
import { FlowUnavailableError, type LocalClientContext } from "../../../src/modes/agent/local_flow.ts";
import type { ByteChannel } from "../../../src/base/channel.ts";
import { readExactly, readToEnd, startLocalService, writeAll } from "./local_service.ts";

const TARGET = { service: "svc", port: 8443 };
const handle = (client: ByteChannel, context: LocalClientContext) => handleForward(client, TARGET, context);

Deno.test("a forward carries bytes and half-close both ways, and names its service and port", async () => {
  using upstream = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using local = startLocalService({ handle, upstreamPort: upstream.addr.port });
  const client = await local.dial();
  const server = await upstream.accept();
  await writeAll(client, utf8("question"));
  await client.closeWrite();
  assert.equal(utf8Decode(await readToEnd(server)), "question");
  await writeAll(server, utf8("answer"));
  await server.closeWrite();
  assert.equal(utf8Decode(await readToEnd(client)), "answer");
  assert.deepEqual(local.targets, [TARGET]);
  client.close();
  server.close();
});

Deno.test("a forward passes resets on in both directions", async () => {
  using upstream = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using local = startLocalService({ handle, upstreamPort: upstream.addr.port });
  for (const who of ["client", "server"] as const) {
    const client = await local.dial();
    const server = await upstream.accept();
    await writeAll(client, utf8("x"));
    await readExactly(server, 1);
    const [resetting, other] = who === "client" ? [client, server] : [server, client];
    const seen = assert.rejects(other.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
    socketChannel(resetting).abort();
    await seen;
    other.close();
  }
});

Deno.test("a forward without a flow is a reset for the client", async () => {
  const failure = new FlowUnavailableError({
    status: 503,
    error: "destination_unavailable",
    details: "none",
  });
  await using local = startLocalService({ handle, failure });
  const client = await local.dial();
  await assert.rejects(client.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
  client.close();
});
