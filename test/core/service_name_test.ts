/** What may be a service's name. */

import assert from "node:assert/strict";
import { MAX_SERVICE_NAME, serviceNameFault } from "../../src/core/service_name.ts";

Deno.test("serviceNameFault() accepts DNS-like names", () => {
  for (
    const name of [
      "a",
      "rtmx-sync",
      "claude-api.ziti",
      "s1",
      "1st",
      "a.b.c",
      "_db",
      "x".repeat(63),
      "10.0.0.x",
    ]
  ) {
    assert.equal(serviceNameFault(name), undefined, name);
  }
});

Deno.test("serviceNameFault() refuses what is not a host name, reads as an address or repeats the suffix", () => {
  for (
    const name of [
      "",
      "A",
      "Rtmx-sync",
      "a b",
      "a/b",
      "a%2fb",
      "-a",
      "a-",
      ".a",
      "a.",
      "a..b",
      "x".repeat(64),
      "é",
      "a\n",
      "10.0.0.1",
      "8080",
      "a.1",
      "::1",
      "ginnel.internal",
      "web.ginnel.internal",
      "#all",
      "@a",
    ]
  ) {
    assert.notEqual(serviceNameFault(name), undefined, JSON.stringify(name));
  }
});

Deno.test("serviceNameFault() bounds the whole name", () => {
  const labels = (length: number) => `${"abcdefghi.".repeat(length / 10 - 1)}abcdefghij`;
  assert.equal(serviceNameFault(labels(MAX_SERVICE_NAME)), undefined);
  assert.match(serviceNameFault(`${labels(MAX_SERVICE_NAME)}k`)!, /longer than 200/);
});
