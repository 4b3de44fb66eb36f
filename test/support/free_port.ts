/**
 * Ports for tests that must know one before anything listens on it, such as a relay that is to come back.
 */

/** Below the ports the kernel gives to outgoing connections, so that none of those takes it in between. */
const FIRST = 10_000;
const LAST = 32_000;

/** A port of 127.0.0.1 that is free for UDP and TCP. */
export function freePort(): number {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
    if (isFree(port)) return port;
  }
}

function isFree(port: number): boolean {
  try {
    using _tcp = Deno.listen({ hostname: "127.0.0.1", port });
    Deno.listenDatagram({ hostname: "127.0.0.1", port, transport: "udp" }).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) return false;
    throw error;
  }
}
