/** connect-ip-go (`go_connect_ip/`) as client or proxy on a host of a tunnel ground, with what it reports. */

import { loadIdentity } from "../../src/identity/identity_file.ts";
import { issueCertificate } from "../../src/identity/pki.ts";
import { createProof } from "../../src/identity/proof.ts";
import { relayServerName } from "../../src/identity/spiffe_id.ts";
import { RELAY_NAME } from "../support/deployment.ts";
import { type ManagedProcess, runCommand } from "../support/processes.ts";
import type { GroundHost, TunnelGround } from "../support/tunnel_ground.ts";
import { testNetwork } from "../support/test_network.ts";

/** The interface that connect-ip-go makes. */
const GO_INTERFACE = "goip0";
/** Port of the foreign proxy on the host `relay`. */
const PROXY_PORT = 8443;
/** Pools of the foreign proxy. */
const POOLS = ["10.200.0.0/24", "fd42:200::/64"];

/** What a tunnel of connect-ip-go's client was given. */
export interface ClientReady {
  readonly status: number;
  readonly capsuleProtocol: string;
  readonly addresses: readonly string[];
  readonly routes: readonly string[];
}

/** Where a client finds its proxy, and what it shows there. */
export interface ClientPlace {
  /** host:port. */
  readonly address: string;
  readonly serverName: string;
  /** File with the certificates that vouch for it. */
  readonly roots: string;
  /** Proof for our relay, shown in a request before the tunnel's. */
  readonly proof?: string;
  /** Authorization header of the tunnel's own request. */
  readonly authorization?: string;
}

/** A running connect-ip-go proxy, and how to be its client. */
export interface GoProxy extends ClientPlace {
  readonly process: ManagedProcess;
  readonly authorization: string;
  /** Stops it; resolves with how many packets it received, by IP protocol number. */
  received(): Promise<Readonly<Record<string, number>>>;
}

/** Builds the program; Go's own cache makes every time but the first quick. */
export async function buildGoConnectIp(go: string): Promise<string> {
  const folder = new URL("./go_connect_ip/", import.meta.url).pathname;
  const tools = new URL("../../.cache/tools/", import.meta.url).pathname;
  await Deno.mkdir(tools, { recursive: true });
  const binary = `${tools}go-connect-ip`;
  await runCommand([go, "build", "-mod=readonly", "-o", binary, "."], { cwd: folder });
  return binary;
}

/** Starts the client; resolves when its interface has its addresses and routes. */
export async function startGoClient(
  ground: TunnelGround,
  options: {
    readonly binary: string;
    readonly from: GroundHost;
    readonly to: ClientPlace;
  },
): Promise<{ readonly process: ManagedProcess; readonly ready: ClientReady }> {
  const { binary, from, to } = options;
  const process = ground.spawn(from, [
    ...[binary, "client", "-tun", GO_INTERFACE],
    ...["-address", to.address, "-name", to.serverName, "-root", to.roots],
    ...(to.proof === undefined ? [] : ["-proof", to.proof]),
    ...(to.authorization === undefined ? [] : ["-authorization", to.authorization]),
  ]);
  const [line] = await process.waitForLine(/^.*"event":"(?:ready|failed)".*$/);
  const { event, ...ready } = JSON.parse(line);
  if (event !== "ready") throw new Error(`connect-ip-go got no tunnel:\n${process.lines.join("\n")}`);
  return { process, ready };
}

/** How a client of the ground's own relay reaches it, with a fresh proof of the agent `foreigner`. */
export async function placeOfRelay(ground: TunnelGround): Promise<ClientPlace> {
  const identity = await loadIdentity(await ground.deployment.issue("agent", "foreigner"));
  return {
    address: ground.relayAddress,
    serverName: relayServerName(RELAY_NAME),
    roots: `${ground.deployment.folder}/ca/ca.crt`,
    proof: await createProof({ identity, audience: RELAY_NAME, now: Date.now() }),
  };
}

/** Starts the proxy on the host `relay`, where it forwards to the internet; resolves when it listens. */
export async function startGoProxy(
  ground: TunnelGround,
  options: { readonly binary: string; readonly routes: readonly string[] },
): Promise<GoProxy> {
  const { folder } = ground.deployment;
  const { ca } = await testNetwork("foreign.example");
  const { certificatePem, privateKeyPem } = await issueCertificate(ca, {
    ...{ kind: "relay", name: "foreign", now: Date.now(), days: 1 },
  });
  const files = {
    roots: `${folder}/foreign-ca.crt`,
    cert: `${folder}/foreign.crt`,
    key: `${folder}/foreign.key`,
  };
  await Deno.writeTextFile(files.roots, ca.certificatePem);
  await Deno.writeTextFile(files.cert, certificatePem);
  await Deno.writeTextFile(files.key, privateKeyPem!);
  await ground.run("relay", [
    ...["sh", "-c", "for f in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 1 > /proc/sys/net/$f; done"],
  ]);
  for (const pool of POOLS) await ground.routeBack(pool);
  const address = `${ground.host("relay").address}:${PROXY_PORT}`;
  const authorization = "Bearer let-me-in";
  const process = ground.spawn("relay", [
    ...[options.binary, "proxy", "-tun", GO_INTERFACE, "-listen", address],
    ...["-cert", files.cert, "-key", files.key, "-authorization", authorization],
    ...POOLS.flatMap((pool) => ["-pool", pool]),
    ...options.routes.flatMap((route) => ["-route", route]),
  ]);
  await process.waitForLine(/"event":"listening"/);
  return {
    ...{ process, address, authorization, roots: files.roots, serverName: relayServerName("foreign") },
    received: async () => {
      await process.stop();
      const [line] = await process.waitForLine(/^.*"event":"received".*$/);
      const { event: _event, ...counts } = JSON.parse(line);
      return counts;
    },
  };
}
