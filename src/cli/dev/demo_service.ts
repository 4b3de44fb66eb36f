/**
 * The demo's private service: an HTTP server that listens only on a unix socket.
 */

/** A running demo service. */
export interface DemoService {
  close(): Promise<void>;
}

/** Starts the service. */
export function startDemoService(socket: string): DemoService {
  const server = Deno.serve({ path: socket, onListen: () => {} }, (request) => {
    const { pathname } = new URL(request.url);
    return new Response(`Hello from a service with no open port. You asked for ${pathname}.\n`, {
      headers: { "content-type": "text/plain; charset=utf-8" },
    });
  });
  Deno.chmodSync(socket, 0o600);
  return { close: () => server.shutdown() };
}
