import assert from "node:assert/strict";
import { raceAddresses } from "../../src/io/race_addresses.ts";

const NEVER = new AbortController().signal;

Deno.test("raceAddresses() tries an IP address as it is", async () => {
  for (const hostname of ["127.0.0.1", "::1"]) {
    const tried: string[] = [];
    const attempt = (host: string) => Promise.resolve(tried.push(host));
    await raceAddresses({ hostname, port: 1 }, { signal: NEVER, attempt, discard: assert.fail });
    assert.deepEqual(tried, [hostname]);
  }
});

Deno.test("raceAddresses() resolves a name", async () => {
  const tried: string[] = [];
  await raceAddresses({ hostname: "localhost", port: 1 }, {
    signal: NEVER,
    attempt: (host) => Promise.resolve(tried.push(host)),
    discard: assert.fail,
  });
  assert.ok(["127.0.0.1", "::1"].includes(tried[0]!), tried[0]);
});

Deno.test("raceAddresses() goes on to the next address when one fails", async () => {
  const tried: string[] = [];
  const connected = await raceAddresses({ hostname: "two", port: 1 }, {
    signal: NEVER,
    resolve: twoAddresses,
    attempt: (host) => {
      tried.push(host);
      return host === "192.0.2.1" ? Promise.reject(new Error("Down")) : Promise.resolve(host);
    },
    discard: assert.fail,
  });
  assert.deepEqual([connected, tried], ["192.0.2.2", ["192.0.2.1", "192.0.2.2"]]);
});

Deno.test("raceAddresses() does not wait for a slow address, and discards it when it answers late", async () => {
  const slow = Promise.withResolvers<string>();
  const discarded = Promise.withResolvers<string>();
  const connected = await raceAddresses({ hostname: "two", port: 1 }, {
    signal: NEVER,
    resolve: twoAddresses,
    attempt: (host) => host === "192.0.2.1" ? slow.promise : Promise.resolve(host),
    discard: discarded.resolve,
  });
  assert.equal(connected, "192.0.2.2");
  slow.resolve("192.0.2.1");
  assert.equal(await discarded.promise, "192.0.2.1");
});

Deno.test("raceAddresses() rejects with the first error when all fail", async () => {
  const attempt = (host: string) => Promise.reject(new Error(`No answer from ${host}`));
  await assert.rejects(
    raceAddresses({ hostname: "two", port: 1 }, {
      signal: NEVER,
      resolve: twoAddresses,
      attempt,
      discard: assert.fail,
    }),
    /192\.0\.2\.1/,
  );
});

Deno.test("raceAddresses() rejects with the signal's reason, and discards what connects after", async () => {
  const late = Promise.withResolvers<string>();
  const discarded = Promise.withResolvers<string>();
  const abort = new AbortController();
  const race = raceAddresses({ hostname: "192.0.2.1", port: 1 }, {
    signal: abort.signal,
    attempt: () => late.promise,
    discard: discarded.resolve,
  });
  abort.abort(new Error("Enough"));
  await assert.rejects(race, /Enough/);
  late.resolve("192.0.2.1");
  assert.equal(await discarded.promise, "192.0.2.1");
  await assert.rejects(
    raceAddresses({ hostname: "192.0.2.1", port: 1 }, {
      signal: abort.signal,
      attempt: assert.fail,
      discard: assert.fail,
    }),
    /Enough/,
  );
});

function twoAddresses(): Promise<string[]> {
  return Promise.resolve(["192.0.2.1", "192.0.2.2"]);
}
