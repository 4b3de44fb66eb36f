/** QUIC datagrams between two processes with nothing else around them: what no way through the product can exceed. */

import { issueCertificate } from "../../src/identity/pki.ts";
import { relayServerName } from "../../src/identity/spiffe_id.ts";
import type { ManagedProcess } from "../support/processes.ts";
import { testNetwork } from "../support/test_network.ts";
import { benchScript } from "./bench_script.ts";

const PORT = 4500;

/** What two bare processes came to. */
export interface BareDatagrams {
  readonly perSecond: number;
  readonly lossPercent: number;
}

/** Where they run. */
export interface BarePlaces {
  /** For certificates. */
  readonly folder: string;
  /** Of the receiver's host. */
  readonly address: string;
  /** Runs a command at the sender's host to its end. */
  readonly send: (command: readonly string[]) => Promise<string>;
  /** Starts a command at the receiver's host. */
  readonly receive: (command: readonly string[]) => ManagedProcess;
}

/** Sends datagrams as fast as they go. */
export async function measureBareDatagrams(
  { folder, address, send, receive }: BarePlaces,
  { size, seconds }: { readonly size: number; readonly seconds: number },
): Promise<BareDatagrams> {
  const { ca } = await testNetwork();
  const issued = await issueCertificate(ca, { kind: "relay", name: "bare", now: Date.now(), days: 1 });
  const files = { root: `${folder}/bare-ca.pem`, cert: `${folder}/bare.pem`, key: `${folder}/bare.key` };
  await Deno.writeTextFile(files.root, ca.certificatePem);
  await Deno.writeTextFile(files.cert, issued.certificatePem);
  await Deno.writeTextFile(files.key, issued.privateKeyPem!);
  const listen = `${address}:${PORT}`;
  await using receiver = receive(benchScript("datagram_peer.ts", ["receive", listen, files.cert, files.key]));
  await receiver.waitForLine(/^listening$/);
  const sending = ["send", listen, relayServerName("bare"), files.root, `${size}`, `${seconds * 1_000}`];
  const { sent } = JSON.parse(await send(benchScript("datagram_peer.ts", sending)));
  const [line] = await receiver.waitForLine(/^\{.*\}$/);
  const { received, perSecond } = JSON.parse(line);
  return { perSecond, lossPercent: (sent - received) / sent * 100 };
}
