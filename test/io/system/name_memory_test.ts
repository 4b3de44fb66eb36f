/** What is remembered of names, and when it is used. */

import assert from "node:assert/strict";
import { NameMemory } from "../../../src/io/system/name_memory.ts";

Deno.test("the system's answer counts while it gives one", async () => {
  const answers = [["192.0.2.1"], ["192.0.2.2", "2001:db8::2"]];
  const memory = new NameMemory({ resolve: () => Promise.resolve(answers.shift()!) });
  assert.deepEqual(await memory.lookUp("relay.test"), ["192.0.2.1"]);
  assert.deepEqual(await memory.lookUp("relay.test"), ["192.0.2.2", "2001:db8::2"]);
});

Deno.test("a name that cannot be looked up keeps the addresses it had, and no other name has them", async () => {
  let isDown = false;
  const resolve = (name: string) =>
    isDown ? Promise.reject(new Error(`no ${name}`)) : Promise.resolve(["192.0.2.1"]);
  const memory = new NameMemory({ resolve });
  await memory.lookUp("relay.test");
  isDown = true;
  assert.deepEqual(await memory.lookUp("relay.test"), ["192.0.2.1"]);
  await assert.rejects(memory.lookUp("other.test"), /no other.test/);
});

Deno.test("an answer that does not come is not waited for where there is one, and counts once it is there", async () => {
  const late = Promise.withResolvers<string[]>();
  const answers = [Promise.resolve(["192.0.2.1"]), late.promise, Promise.reject(new Error("down"))];
  answers[2]!.catch(() => {});
  const memory = new NameMemory({ resolve: () => answers.shift()!, patience: 1 });
  await memory.lookUp("relay.test");
  assert.deepEqual(await memory.lookUp("relay.test"), ["192.0.2.1"]);
  late.resolve(["192.0.2.2"]);
  await late.promise;
  assert.deepEqual(await memory.lookUp("relay.test"), ["192.0.2.2"]);
});

Deno.test("an answer that comes after nobody waits any more may be an error", async () => {
  const late = Promise.withResolvers<string[]>();
  const answers = [Promise.resolve(["192.0.2.1"]), late.promise];
  const memory = new NameMemory({ resolve: () => answers.shift()!, patience: 1 });
  await memory.lookUp("relay.test");
  await memory.lookUp("relay.test");
  late.reject(new Error("timed out"));
  await assert.rejects(late.promise);
});
