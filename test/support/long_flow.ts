/**
 * A connection to an echoing service that is never quiet for long: what is said on it comes back byte by byte, or the
 * flow was not the same all the time. For tests of what may happen under a running flow.
 */

import assert from "node:assert/strict";
import { eventually } from "./eventually.ts";

/** Milliseconds between two messages, and the bytes of one. */
const PACE_MS = 40;
const MESSAGE_LENGTH = 400;

/** A flow that talks until it is finished, or ends. */
export class LongFlow implements Disposable {
  /** Resolves when the other side has ended or reset the connection, or the test has. Never rejects. */
  readonly ended: Promise<void>;
  readonly #conn: Deno.TcpConn;
  #bytes = 0;
  #hasEnded = false;
  #isFinishing = false;
  #fault: unknown;

  /** Connects to a local port and waits for the first answer. */
  static async open(port: number): Promise<LongFlow> {
    const flow = new LongFlow(await Deno.connect({ hostname: "127.0.0.1", port }));
    try {
      await flow.goesOn();
    } catch (error) {
      flow[Symbol.dispose]();
      throw error;
    }
    return flow;
  }

  private constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    this.ended = this.#run();
  }

  /** Bytes that have gone there and come back as they were. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether it still runs. */
  get isOpen(): boolean {
    return !this.#hasEnded;
  }

  /** Resolves when something said after this has come back; rejects when the flow has ended. */
  async goesOn(): Promise<void> {
    const before = this.#bytes + MESSAGE_LENGTH;
    await eventually(() => this.#hasEnded || this.#bytes > before);
    assert.ok(!this.#hasEnded, `the flow has ended: ${this.#fault}`);
  }

  /** Says a last word and ends it; rejects unless everything that was ever said came back. */
  async finish(): Promise<void> {
    assert.ok(!this.#hasEnded, `the flow has ended: ${this.#fault}`);
    this.#isFinishing = true;
    await this.ended;
    assert.equal(this.#fault, undefined);
  }

  [Symbol.dispose](): void {
    this.#isFinishing = true;
    this.#close();
  }

  async #run(): Promise<void> {
    try {
      while (!this.#isFinishing) {
        const due = performance.now() + PACE_MS;
        await this.#exchange();
        await eventually(() => performance.now() >= due || this.#hasEnded);
      }
    } catch (error) {
      this.#fault = error;
    }
    this.#close();
  }

  /** One message there and back. */
  async #exchange(): Promise<void> {
    const said = messageAt(this.#bytes);
    for (let written = 0; written < said.length;) {
      written += await this.#conn.write(said.subarray(written));
    }
    const heard = new Uint8Array(MESSAGE_LENGTH);
    for (let read = 0; read < heard.length;) {
      const count = await this.#conn.read(heard.subarray(read));
      if (count === null) throw new Error(`ended after ${this.#bytes + read} bytes`);
      read += count;
    }
    assert.deepEqual(heard, said);
    this.#bytes += said.length;
  }

  #close(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#conn.close();
  }
}

/** No two messages are alike, so that none can be lost, doubled or out of place unseen. */
function messageAt(offset: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(MESSAGE_LENGTH);
  for (let index = 0; index < bytes.length; index++) {
    const position = offset + index;
    bytes[index] = (position * 31 + (position >> 8) * 17 + (position >> 16)) & 0xff;
  }
  return bytes;
}
