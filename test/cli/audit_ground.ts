/** An audit log in a real database, its controller's config, and a real API over it: what the tests of commands ask. */

import { join } from "node:path";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import type { AdminPort } from "../../src/api/admin_port.ts";
import { createApi } from "../../src/api/app.ts";
import type { Store } from "../../src/control/store.ts";
import type { Principal } from "../../src/core/network/access.ts";
import type { AuditFact } from "../../src/core/network/audit_entry.ts";
import { openStore } from "../../src/store/open_store.ts";
import { makeCa, makeTls } from "../io/controller/servers.ts";

/** The token of an administrator, and of somebody who may only look. */
export const TOKENS = { admin: "gnl_admin_secret", viewer: "gnl_viewer_secret" } as const;

/** A controller's folder and API. */
export interface AuditGround extends AsyncDisposable {
  readonly folder: string;
  readonly config: string;
  readonly database: string;
  readonly store: Store;
  /** Flags that reach the API as admin or viewer. */
  access(role: keyof typeof TOKENS): string[];
}

/** The n-th fact of a log. */
export function factOf(n: number): AuditFact {
  return {
    time: Date.parse("2026-01-01T00:00:00Z") + n * 60_000,
    event: n % 3 === 0 ? "deny" : "connect",
    who: `spiffe://t/agent/a${n % 5}`,
    target: n % 2 === 0 ? "web" : "ssh",
    outcome: n % 3 === 0 ? "denied" : "open",
    detail: { n },
    source: "spiffe://t/relay/r",
  };
}

/** Makes a log of so many entries. */
export async function startAuditGround(entries: number): Promise<AuditGround> {
  const folder = await Deno.makeTempDir();
  const config = join(folder, "controller.json");
  await Deno.writeTextFile(config, JSON.stringify({ mode: "controller", trustDomain: "t", data: "data" }));
  const database = join(folder, "data", "ginnel.db");
  const store = await openStore({ kind: "sqlite", path: database }, { logger: SILENT_LOGGER });
  await store.appendAudit(Array.from({ length: entries }, (_, index) => factOf(index + 1)));
  const ca = await makeCa();
  await Deno.writeTextFile(join(folder, "ca.crt"), ca.certificatePem);
  for (const [role, token] of Object.entries(TOKENS)) {
    await Deno.writeTextFile(join(folder, role), `${token}\n`, { mode: 0o600 });
  }
  const api = createApi({
    admin: adminOf(store),
    authenticate: (bearer) => Promise.resolve(principalOf(bearer)),
    verifyProof: () => Promise.reject(new Error("no proofs here")),
    nodeRouters: [],
    health: () => ({ ready: true, uptime: 0 }),
    logger: SILENT_LOGGER,
    now: Date.now,
  });
  const tls = await makeTls(ca);
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, ...tls, onListen() {} }, api.fetch);
  const access = (role: keyof typeof TOKENS) => [
    "--controller",
    `https://127.0.0.1:${server.addr.port}`,
    "--ca",
    join(folder, "ca.crt"),
    "--token-file",
    join(folder, role),
  ];
  return {
    folder,
    config,
    database,
    store,
    access,
    async [Symbol.asyncDispose]() {
      await server.shutdown();
      await store[Symbol.asyncDispose]();
    },
  };
}

/** The part of the controller that these tests reach. */
function adminOf(store: Store): AdminPort {
  return {
    audit: (query: Parameters<Store["queryAudit"]>[0]) => store.queryAudit(query),
    network: () => Promise.resolve({ trustDomain: "t", revision: 1, roots: [] }),
    noteDenied: () => Promise.resolve(),
  } as unknown as AdminPort;
}

function principalOf(bearer: string): Principal | undefined {
  const role = (["admin", "viewer"] as const).find((known) => TOKENS[known] === bearer);
  return role === undefined ? undefined : { who: `token:${role}`, role, scopes: [] };
}
