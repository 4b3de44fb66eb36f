/**
 * Signals by which a person or a service manager stops the program.
 */

const STOP_SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** Resolves with the first stop signal's name; the second one ends the process at once. */
export function untilStopped(): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  let isStopping = false;
  for (const signal of STOP_SIGNALS) {
    Deno.addSignalListener(signal, () => {
      if (isStopping) Deno.exit(1);
      isStopping = true;
      resolve(signal);
    });
  }
  return promise;
}

/** Calls `reload` at each SIGHUP; returns the way to stop listening. */
export function onReload(reload: () => void): () => void {
  Deno.addSignalListener("SIGHUP", reload);
  return () => Deno.removeSignalListener("SIGHUP", reload);
}
