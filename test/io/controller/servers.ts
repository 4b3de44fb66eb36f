/** Servers that are, or pose as, a controller: real TLS on loopback. */

import { type CaBundle, createCa, issueCertificate } from "../../../src/identity/pki.ts";
import type { IdentityKind } from "../../../src/identity/spiffe_id.ts";

/** A CA made now. */
export function makeCa(trustDomain = "test.internal"): Promise<CaBundle> {
  return createCa({ trustDomain, now: Date.now(), days: 10 });
}

/** A certificate chain with its key, as TLS servers take them. */
export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
}

/** A certificate under `ca`, sent together with the CA's. */
export async function makeTls(
  ca: CaBundle,
  options: { readonly kind?: IdentityKind; readonly name?: string; readonly shown?: string } = {},
): Promise<TlsFiles> {
  const { kind = "controller", name = "controller-1", shown = ca.certificatePem } = options;
  const issued = await issueCertificate(ca, { kind, name, now: Date.now(), days: 1 });
  return { cert: issued.certificatePem + shown, key: issued.privateKeyPem! };
}

/** A server and how nodes find it. */
export interface TestServer extends AsyncDisposable {
  readonly place: { readonly name: string; readonly url: string };
}

/** Serves HTTPS on a free port. */
export function serve(
  tls: TlsFiles,
  handler: (request: Request) => Response | Promise<Response>,
  name = "controller-1",
): TestServer {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, ...tls, onListen() {} }, handler);
  return {
    place: { name, url: `https://127.0.0.1:${server.addr.port}` },
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

/** Takes TLS connections, keeps every byte that is said in them, and answers by `answer`, or by hanging up. */
export function listen(
  tls: TlsFiles,
  options: { readonly name?: string; readonly answer?: string } = {},
): TestServer & { readonly heard: string[] } {
  const { name = "controller-1", answer } = options;
  const heard: string[] = [];
  const listener = Deno.listenTls({ hostname: "127.0.0.1", port: 0, ...tls });
  const serving = (async () => {
    for (;;) {
      const conn = await listener.accept().catch(() => undefined);
      if (conn === undefined) return;
      try {
        await conn.handshake();
        const buffer = new Uint8Array(16_384);
        const count = await conn.read(buffer);
        if (count !== null) heard.push(new TextDecoder().decode(buffer.subarray(0, count)));
        if (answer !== undefined) await conn.write(new TextEncoder().encode(answer));
      } catch {
        // The client hung up, as it should.
      } finally {
        conn.close();
      }
    }
  })();
  return {
    heard,
    place: { name, url: `https://127.0.0.1:${listener.addr.port}` },
    [Symbol.asyncDispose]: async () => {
      listener.close();
      await serving;
    },
  };
}
