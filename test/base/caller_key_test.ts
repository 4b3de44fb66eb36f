import assert from "node:assert/strict";
import { callerKey } from "../../src/base/caller_key.ts";

Deno.test("callers at IPv4 addresses are never counted as one, however a socket states them", () => {
  assert.equal(callerKey("192.0.2.1"), "192.0.2.1");
  assert.equal(callerKey("::ffff:192.0.2.1"), "192.0.2.1");
  assert.equal(callerKey("::FFFF:192.0.2.2"), "192.0.2.2");
});

Deno.test("callers of one IPv6 /64 are one, others are not", () => {
  assert.equal(callerKey("2001:db8::1"), callerKey("2001:db8:0:0:ffff::2"));
  assert.notEqual(callerKey("2001:db8::1"), callerKey("2001:db8:0:1::1"));
  assert.notEqual(callerKey("::1"), callerKey("127.0.0.1"));
});

Deno.test("what is no address stands for itself", () => {
  for (const text of ["unix", "", "::ffff:1.2.3", "::ffff:1.2.3.4.5"]) assert.equal(callerKey(text), text);
});
