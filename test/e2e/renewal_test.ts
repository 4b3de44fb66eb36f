/** Certificates are renewed under running flows: on either carrier a flow outlives those it began with. */

import assert from "node:assert/strict";
import { openCaDirectory } from "../../src/identity/ca_directory.ts";
import { issueIdentity } from "../../src/identity/issue_identity.ts";
import { writeSecretFile } from "../../src/identity/secret_file.ts";
import { eventually } from "../support/eventually.ts";
import { connectNamed, NamedUpstream } from "../support/named_upstream.ts";
import { Network } from "../support/network.ts";

/** Seconds that the first certificates live: enough to build a network with them. */
const FIRST_LIFE = 10;

for (const carrier of ["quic", "tls"]) {
  Deno.test(`carrier ${carrier}: a flow outlives the certificates it began with; without renewal it does not`, async () => {
    await using network = await Network.create();
    using upstream = new NamedUpstream("web");
    const relay = await network.relay();
    const until = Date.now() + FIRST_LIFE * 1_000;
    const files = {
      site: await issue(network, { kind: "connector", name: "site", seconds: FIRST_LIFE }),
      alice: await issue(network, { kind: "agent", name: "alice", seconds: FIRST_LIFE }),
      bob: await issue(network, { kind: "agent", name: "bob", seconds: FIRST_LIFE }),
    };
    const relays = [relay];
    const config = (identity: string) => ({ config: { identity, carrier } });
    const services = { web: upstream.upstream };
    await network.connector({ name: "site", services, relays, ...config(files.site) });
    const alice = await network.agent({ name: "alice", forwards: ["web"], relays, ...config(files.alice) });
    const bob = await network.agent({ name: "bob", forwards: ["web"], relays, ...config(files.bob) });
    const renewed = await connectNamed(alice.forward("web"));
    const abandoned = await connectNamed(bob.forward("web"));
    await issue(network, { kind: "connector", name: "site", seconds: 600, path: files.site });
    await issue(network, { kind: "agent", name: "alice", seconds: 600, path: files.alice });
    assert.ok(Date.now() < until - 1_000, "the network took too long to build for its certificates");
    // The flow of the one that was not renewed shows when the other's was due to end.
    await ended(abandoned.conn);
    assert.ok(Date.now() >= until - 1_000);
    const received = upstream.received;
    await eventually(() => Date.now() > until + 500);
    await renewed.conn.write(new Uint8Array(1_000));
    await eventually(() => upstream.received === received + 1_000);
    const next = await connectNamed(alice.forward("web"));
    next.conn.close();
    renewed.conn.close();
  });
}

/** Resolves when the other side has ended or reset a connection. */
async function ended(conn: Deno.TcpConn): Promise<void> {
  try {
    while (await conn.read(new Uint8Array(1_024)) !== null);
  } catch {
    // A reset is an end, too.
  }
  conn.close();
}

/** Writes an identity file of a life of its own; in the place of another where `path` is given. */
async function issue(
  network: Network,
  options: {
    readonly kind: "agent" | "connector";
    readonly name: string;
    readonly seconds: number;
    readonly path?: string;
  },
): Promise<string> {
  const { kind, name, seconds, path = `${network.folder}/${name}.short.json` } = options;
  const { ca, authority } = await openCaDirectory(`${network.folder}/ca`);
  const now = Date.now();
  const { text } = await issueIdentity(ca, {
    kind,
    name,
    now,
    days: seconds / 86_400,
    authorities: [authority],
  });
  await writeSecretFile(path, text, { replace: true });
  return path;
}
