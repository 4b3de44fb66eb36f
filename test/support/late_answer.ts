/**
 * A relay's tunnels on this host, and a peer that takes its answer only when its right may be gone: FOLDER WHAT.
 * `egress.json` in FOLDER names agent/alice; what is taken from her meanwhile is her `entry`, her `lease` or `nothing`.
 * Prints `served` when she gets a tunnel after that, `ended` when not.
 */

import type { ByteChannel } from "../../src/base/channel.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { loadPolicy } from "../../src/config/policy_file.ts";
import { relayTunnelSchema } from "../../src/config/schema/tunnel.ts";
import { compilePolicy } from "../../src/core/policy/snapshot.ts";
import type { ServerRequest } from "../../src/dataplane/carrier.ts";
import { parseSpiffeId } from "../../src/identity/spiffe_id.ts";
import { noDatagrams } from "../../src/io/h3/no_datagrams.ts";
import { IpTunnels } from "../../src/modes/relay/tunnel/ip_tunnels.ts";
import { releaseStoredLease } from "../../src/store/stored_leases.ts";
import { AuditLog } from "../../src/telemetry/audit.ts";

const ALICE = parseSpiffeId("spiffe://test.example/agent/alice");

/** The stream of a peer that says nothing; tells when the relay speaks on it or ends it. */
class SilentPeer implements ByteChannel {
  readonly #fate = Promise.withResolvers<"served" | "ended">();
  readonly #end = Promise.withResolvers<null>();

  get fate(): Promise<"served" | "ended"> {
    return this.#fate.promise;
  }

  get end(): Promise<null> {
    return this.#end.promise;
  }

  read(): Promise<null> {
    return this.#end.promise;
  }

  write(): Promise<void> {
    this.#fate.resolve("served");
    return Promise.resolve();
  }

  closeWrite(): Promise<void> {
    return Promise.resolve();
  }

  abort(): void {
    this.#fate.resolve("ended");
    this.#end.resolve(null);
  }
}

async function main([folder = "", what = ""]: readonly string[]): Promise<void> {
  const config = relayTunnelSchema.parse({
    policy: [`${folder}/egress.json`],
    leases: `${folder}/late-leases.jsonl`,
  });
  const audit = await AuditLog.open({ file: `${folder}/late-audit.jsonl` }, { logger: SILENT_LOGGER });
  const policy = compilePolicy(await loadPolicy([`${folder}/policy.json`]), { trustDomain: "test.example" });
  const tunnels = await IpTunnels.start({
    config,
    trustDomain: "test.example",
    policy: () => policy,
    audit,
    logger: SILENT_LOGGER,
  });
  const ask = (respond: () => Promise<ByteChannel>) => {
    const request = { respond, datagrams: noDatagrams(Promise.resolve()) } as unknown as ServerRequest;
    return tunnels.serve(request, { id: ALICE, ip: { target: "*", ipproto: "*", dialect: "rfc9484" } });
  };

  const late = new SilentPeer();
  const asked = Promise.withResolvers<void>();
  const answered = Promise.withResolvers<ByteChannel>();
  const serving = ask(() => {
    asked.resolve();
    return answered.promise;
  });
  await asked.promise;
  const prompt = new SilentPeer();
  const other = ask(() => Promise.resolve(prompt));
  await prompt.fate;
  if (what === "entry") {
    await Deno.writeTextFile(`${folder}/egress.json`, JSON.stringify({ version: "1.0", clients: {} }));
    await tunnels.reload();
  }
  if (what === "lease") await releaseStoredLease(config.leases, ALICE.uri);
  // With either her first tunnel ends: by then it has been noticed.
  if (what !== "nothing") await prompt.end;
  answered.resolve(late);
  console.log(await late.fate);
  await tunnels.close();
  await Promise.all([serving, other]);
  await audit.close();
}

if (import.meta.main) await main(Deno.args);
