import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import type { ClientConnection } from "../../../src/dataplane/carrier.ts";
import { type CarrierChoice, TlsCarrier } from "../../../src/modes/shared/tls_carrier.ts";

const NEVER = new AbortController().signal;

/** A carrier over a clock that only moves when a dial takes time or a test says so. */
class Bench {
  time = 0;
  dials = 0;
  /** Milliseconds each dial takes, or the error it fails with. */
  dialTakes: number | Error = 1;
  readonly carrier: TlsCarrier;

  constructor(choice: CarrierChoice) {
    this.carrier = new TlsCarrier({
      choice,
      dial: () => {
        this.dials++;
        if (this.dialTakes instanceof Error) return Promise.reject(this.dialTakes);
        this.time += this.dialTakes;
        return Promise.resolve({ close: () => Promise.resolve() } as unknown as ClientConnection);
      },
      logger: SILENT_LOGGER,
      now: () => this.time,
    });
  }

  /** How many of `count` requests get a connection. */
  async take(count: number, options: { readonly waiting?: boolean } = {}): Promise<number> {
    let taken = 0;
    for (let i = 0; i < count; i++) if (await this.carrier.take(options) !== undefined) taken++;
    return taken;
  }
}

Deno.test("quic never dials, tls always does and tells why it cannot", async () => {
  const quic = new Bench("quic");
  assert.equal(await quic.take(5), 0);
  assert.equal(quic.dials, 0);
  const tls = new Bench("tls");
  assert.equal(await tls.take(100), 100);
  tls.dialTakes = new Error("Connection refused");
  await assert.rejects(tls.carrier.take(), /Connection refused/);
});

Deno.test("auto dials a burst, then two a second, and keeps half for flows that need not wait", async () => {
  const bench = new Bench("auto");
  bench.dialTakes = 0;
  assert.equal(await bench.take(20, { waiting: true }), 9, "down to the reserve");
  assert.equal(await bench.take(20), 7, "the reserve");
  bench.time += 1_000;
  assert.equal(await bench.take(20, { waiting: true }), 0);
  assert.equal(await bench.take(20), 2);
});

Deno.test("auto leaves a path alone whose fastest dial is slow, and a relay that takes no TLS", async () => {
  const slow = new Bench("auto");
  slow.dialTakes = 40;
  assert.equal(await slow.take(20), 8);
  assert.equal(slow.carrier.isWorthwhile, false);
  slow.time += 60_000;
  assert.equal(slow.carrier.isWorthwhile, true);

  const closed = new Bench("auto");
  closed.dialTakes = new Error("Connection refused");
  assert.equal(await closed.take(3), 0);
  assert.equal(closed.dials, 1);
});

Deno.test("one fast dial outweighs any number of slow ones, until the path may be another", async () => {
  const bench = new Bench("auto");
  bench.dialTakes = 3;
  assert.equal(await bench.take(1), 1);
  bench.dialTakes = 400;
  assert.equal(await bench.take(12), 12, "a busy machine");
  bench.carrier.reset();
  assert.equal(await bench.take(8), 8);
  assert.equal(bench.carrier.isWorthwhile, false, "a long path");
});

Deno.test("a refused dial counts only where one succeeded before, on this path", async () => {
  for (const choice of ["auto", "tls"] as const) {
    const bench = new Bench(choice);
    bench.dialTakes = new Deno.errors.ConnectionRefused("refused");
    assert.equal(await bench.carrier.isRefused(NEVER), false);
    assert.equal(bench.dials, 0);
    bench.dialTakes = 1;
    await bench.take(1);
    assert.equal(await bench.carrier.isRefused(NEVER), false);
    bench.dialTakes = new Deno.errors.ConnectionRefused("refused");
    assert.equal(await bench.carrier.isRefused(NEVER), true);
    // A flow that was refused the same way must not make it forget.
    await bench.take(1).catch(() => {});
    assert.equal(await bench.carrier.isRefused(NEVER), true);
    bench.dialTakes = new Deno.errors.TimedOut("no answer");
    assert.equal(await bench.carrier.isRefused(NEVER), false);
    bench.carrier.reset();
    bench.dialTakes = new Deno.errors.ConnectionRefused("refused");
    assert.equal(await bench.carrier.isRefused(NEVER), false);
  }
});
