/**
 * Joins a flow of datagrams to its upstream. Nothing is kept: what either side does not take at once is dropped.
 */

import { type DatagramFlow, MAX_DATAGRAM } from "../../dataplane/datagram/datagram_flow.ts";
import type { DatagramUpstream } from "./datagram_upstream.ts";

/** How to join. */
export interface JoinOptions {
  /** Ends the flow for the signal's reason. */
  readonly signal: AbortSignal;
  /** Milliseconds without a datagram in either direction after which the flow ends. */
  readonly idleTimeout: number;
  /** Turns the upstream's error into what the caller is told. */
  readonly refusal: (error: Error) => Error;
}

/** Why a joined flow ended: nothing went wrong, it was idle too long, or an error. */
export type JoinEnd = "closed" | "idle" | Error;

/** An idle flow is noticed after its time, and a fraction of it at most. */
const IDLE_LOOKS = 4;

/** Passes datagrams both ways until either side ends or the options say so; both have ended then. Never rejects. */
export async function joinDatagrams(
  flow: DatagramFlow,
  upstream: DatagramUpstream,
  options: JoinOptions,
): Promise<JoinEnd> {
  const { signal, idleTimeout, refusal } = options;
  const { promise, resolve } = Promise.withResolvers<JoinEnd>();
  let carried = 0;
  flow.receive((payload) => {
    carried++;
    upstream.send(payload, 0, payload.length);
  });
  upstream.receive((payload) => {
    carried++;
    if (payload.length <= MAX_DATAGRAM) flow.send(payload, 0, payload.length);
  });
  flow.closed.then((error) => resolve(error ?? "closed"));
  upstream.closed.then((error) => resolve(error === undefined ? "closed" : refusal(error)));
  const onAbort = () => resolve(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  const timer = watchIdle(idleTimeout, { carried: () => carried, onIdle: () => resolve("idle") });
  const end = await promise;
  clearInterval(timer);
  signal.removeEventListener("abort", onAbort);
  flow.close(end instanceof Error ? end : undefined);
  upstream.abort();
  return end;
}

/** Looks at what was carried from time to time, so that no datagram costs a look at the clock. */
function watchIdle(
  idleTimeout: number,
  flow: { readonly carried: () => number; readonly onIdle: () => void },
): ReturnType<typeof setInterval> {
  let last = flow.carried();
  let idleLooks = 0;
  return setInterval(() => {
    const now = flow.carried();
    idleLooks = now === last ? idleLooks + 1 : 0;
    last = now;
    if (idleLooks > IDLE_LOOKS) flow.onIdle();
  }, idleTimeout / IDLE_LOOKS);
}
