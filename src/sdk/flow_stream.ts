/**
 * A flow as web streams, for programs that speak something else than HTTP.
 */

import type { ByteChannel } from "../base/channel.ts";

/** A connection to a service, as `Deno.Conn` has it. */
export interface FlowConn extends Disposable {
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** Closing it ends our direction only; aborting it resets the flow. */
  readonly writable: WritableStream<Uint8Array>;
  /** Ends the flow at once, in both directions. Idempotent. */
  close(): void;
}

/** Shows a flow, which from now on belongs to the streams. */
export function flowConn(flow: ByteChannel): FlowConn {
  const close = () => flow.abort(new Error("The connection was closed"));
  return {
    readable: new ReadableStream({
      async pull(controller) {
        const bytes = await flow.read();
        // The view dies with the next read.
        if (bytes === null) controller.close();
        else controller.enqueue(bytes.slice());
      },
      cancel: (reason) => flow.abort(reason),
    }, { highWaterMark: 0 }),
    writable: new WritableStream({
      write: (bytes) => bytes.length === 0 ? undefined : flow.write(bytes),
      close: () => flow.closeWrite(),
      abort: (reason) => flow.abort(reason),
    }),
    close,
    [Symbol.dispose]: close,
  };
}
