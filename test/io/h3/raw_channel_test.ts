import assert from "node:assert/strict";
import { HEADROOM } from "../../../src/base/channel.ts";
import { RawChannel } from "../../../src/io/h3/raw_channel.ts";
import { wire } from "../../wire/h3/support.ts";
import { readAll, text } from "../support.ts";
import { FakePipe } from "./fake_pipe.ts";

Deno.test("RawChannel gives the bytes read before it first, with headroom", async () => {
  const channel = new RawChannel(new FakePipe(wire(" world")), { rest: wire("hello") });
  const first = await channel.read();
  assert.equal(text(first), "hello");
  assert.ok(first!.byteOffset >= HEADROOM);
  assert.equal(text(await readAll(channel)), " world");
});

Deno.test("RawChannel writes bytes as they are", async () => {
  const pipe = new FakePipe(new Uint8Array(0));
  const channel = new RawChannel(pipe);
  await channel.write(wire("abc"));
  await channel.closeWrite();
  assert.equal(text(pipe.written), "abc");
  assert.ok(pipe.writeClosed);
});

Deno.test("RawChannel is done once, when both directions have ended or either broke both", async () => {
  for (const end of ["clean", "reset"] as const) {
    let done = 0;
    const channel = new RawChannel(new FakePipe(wire("a"), { end }), { onDone: () => done++ });
    assert.equal(text(await channel.read()), "a");
    await channel.closeWrite();
    assert.equal(done, 0);
    await channel.read().catch(() => {});
    assert.equal(done, 1);
    channel.abort();
    assert.equal(done, 1);
  }
});
