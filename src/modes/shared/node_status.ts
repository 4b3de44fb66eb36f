/** How a node is, as `ginnel status` tells it: what every mode has in common. Times are RFC 3339 texts. */

import { formatHostPort } from "../../base/address.ts";
import { VERSION } from "../../base/version.ts";
import type { NodeConfig } from "./node.ts";
import type { Identity } from "../../identity/identity_file.ts";
import type { RelayAddress, RelayClient } from "./relay_client.ts";
import type { ViewHolder } from "./view_holder.ts";

/** `degraded`: connected, but not all of what the config asks for works. */
export type Connectedness = "connected" | "degraded" | "disconnected";

/** What every node tells of itself. */
export interface NodeStatus {
  readonly version: string;
  readonly pid: number;
  readonly started: string;
  readonly state: Connectedness;
  /** Why the state is not `connected`, each with what to do. */
  readonly problems: readonly StatusProblem[];
  readonly identity: {
    readonly id: string;
    readonly kind: string;
    readonly expires: string;
    readonly file?: string;
  };
  readonly relays: readonly RelayStatus[];
  /** Absent in a network without controllers. */
  readonly controller?: { readonly names: readonly string[]; readonly asOf?: string };
  /** Absent while no view is in force. */
  readonly view?: { readonly revision: number; readonly issued: string; readonly expires: string };
}

/** Something that is wrong. */
export interface StatusProblem {
  readonly text: string;
  readonly hint: string;
}

/** One relay. */
export interface RelayStatus {
  readonly name: string;
  readonly address: string;
  readonly connected: boolean;
  readonly draining: boolean;
  readonly since?: string;
  readonly rttMs?: number;
  readonly carrier?: string;
  /** Our address as the relay sees it. */
  readonly observed?: string;
  readonly problem?: string;
}

/** The part of a node that tells. */
export interface StatusSource {
  readonly identity: Identity;
  readonly clients: readonly RelayClient[];
  readonly relays: readonly RelayAddress[];
  readonly views: ViewHolder;
}

/** Milliseconds for which relays are waited for to be measured; after that their last measure is told. */
const MEASURE_MS = 1_000;

const STARTED = Date.now();

/** Asks every connected relay how far it is, and tells how the node is. `more` is what a mode itself finds wrong. */
export async function nodeStatus(
  node: StatusSource,
  { config, more = [] }: { readonly config: NodeConfig; readonly more?: readonly StatusProblem[] },
): Promise<NodeStatus> {
  const signal = AbortSignal.timeout(MEASURE_MS);
  await Promise.all(node.clients.map((client) => client.measure(signal)));
  const { identity, views } = node;
  const relays = node.clients.map((client) => relayStatus(client, node.relays));
  const isConnected = relays.some(({ connected }) => connected);
  const problems = [...connectionProblems(relays), ...rightsProblems(node, isConnected), ...more];
  const { newest } = views;
  const controllers = identity.network?.controllers ?? [];
  return {
    version: VERSION,
    pid: Deno.pid,
    started: time(STARTED),
    state: !isConnected ? "disconnected" : problems.length > 0 ? "degraded" : "connected",
    problems,
    identity: {
      id: identity.id.uri,
      kind: identity.id.kind,
      expires: time(identity.notAfter),
      ...(typeof config.identity === "string" && { file: config.identity }),
    },
    relays,
    ...(controllers.length > 0 && {
      controller: {
        names: controllers.map(({ name }) => name),
        ...(newest !== undefined && { asOf: time(newest.issued) }),
      },
    }),
    ...(newest !== undefined && {
      view: { revision: newest.revision, issued: time(newest.issued), expires: time(newest.expires) },
    }),
  };
}

function relayStatus(client: RelayClient, addresses: readonly RelayAddress[]): RelayStatus {
  const { since, roundTrip, observed, problem } = client.facts.state;
  const { connection } = client;
  const address = addresses.find(({ name }) => name === client.name)?.address;
  return {
    name: client.name,
    address: address === undefined ? "" : formatHostPort(address),
    connected: connection !== undefined,
    draining: since !== undefined && connection === undefined,
    ...(since !== undefined && { since: time(since) }),
    ...(roundTrip !== undefined && { rttMs: Math.round(roundTrip * 10) / 10 }),
    ...(connection !== undefined && { carrier: connection.carrier }),
    ...(observed !== undefined && { observed }),
    ...(problem !== undefined && { problem }),
  };
}

function connectionProblems(relays: readonly RelayStatus[]): StatusProblem[] {
  if (relays.some(({ connected }) => connected)) return [];
  if (relays.length === 0) {
    return [{ text: "no relay is known", hint: "Name one in the config, or enrol again" }];
  }
  return [{ text: "no relay is connected", hint: "Find out what is in the way: ginnel doctor" }];
}

function rightsProblems({ identity, views }: StatusSource, isConnected: boolean): StatusProblem[] {
  const problems: StatusProblem[] = [];
  if (identity.notAfter <= Date.now()) {
    const hint = identity.id.kind === "user" ? "Log in again: ginnel login" : "Enrol again: ginnel enroll";
    problems.push({ text: "the certificate has expired", hint });
  }
  if (isConnected && !views.isValid) {
    const hint = "Look at the log for view_refused; the clock or the network's authority may be wrong";
    problems.push({ text: "no valid view of the rights has come", hint });
  }
  return problems;
}

/** A time as statuses tell it. */
export function time(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
