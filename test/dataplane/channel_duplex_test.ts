/** The Duplex that TLS sees: budget, end and errors. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { utf8 } from "../../src/base/bytes.ts";
import { ChannelDuplex } from "../../src/dataplane/channel_duplex.ts";
import { channelPair } from "../support/channel_pair.ts";

Deno.test("ChannelDuplex copies what it reads and carries both ends", async () => {
  const [near, far] = channelPair();
  const duplex = new ChannelDuplex({ channel: near, maxReadBytes: 100 });
  await far.write(utf8("one"));
  await far.write(utf8("two"));
  await far.closeWrite();
  const chunks: Uint8Array[] = [];
  for await (const chunk of duplex) chunks.push(chunk);
  assert.deepEqual(chunks.map((chunk) => String.fromCharCode(...chunk)), ["one", "two"]);
});

Deno.test("ChannelDuplex is destroyed by one byte beyond its budget", async () => {
  const [near, far] = channelPair();
  const duplex = new ChannelDuplex({ channel: near, maxReadBytes: 5 });
  duplex.resume();
  await far.write(utf8("12345"));
  await once(duplex, "data");
  const failed = once(duplex, "error");
  await far.write(utf8("6"));
  const [error] = await failed;
  assert.ok(error instanceof RangeError);
  assert.ok(near.isAborted);
});

Deno.test("ChannelDuplex fails with its channel", async () => {
  const [near, far] = channelPair();
  const duplex = new ChannelDuplex({ channel: near, maxReadBytes: 5 });
  const failed = once(duplex, "error");
  duplex.resume();
  far.abort();
  const [error] = await failed;
  assert.equal(error.code, "ERR_CHANNEL_RESET");
});

Deno.test("destroy() aborts the channel", async () => {
  const [near, far] = channelPair();
  const duplex = new ChannelDuplex({ channel: near, maxReadBytes: 5 });
  duplex.destroy();
  await once(duplex, "close");
  await assert.rejects(far.read(), { code: "ERR_CHANNEL_RESET" });
});
