/** The checks of a `host.v1` config, ready to run; they reach nothing that flows may not. */

import { parseHostPort } from "../../base/address.ts";
import type { Host } from "../../core/service/host.ts";
import {
  type CheckAction,
  type HttpCheck,
  type PortCheck,
  readDuration,
} from "../../core/service/host_checks.ts";
import { dialUpstream } from "../../io/tcp/dial.ts";
import { hostOf, portOf, probeHttp } from "../../io/tcp/http_probe.ts";
import type { HostingReach } from "./hosting_reach.ts";

/** One check. */
export interface HostCheck {
  /** What it looks at, for the log. */
  readonly name: string;
  /** Milliseconds between the end of one and the next, and for one at most. */
  readonly interval: number;
  readonly timeout: number;
  readonly actions: readonly CheckAction[] | undefined;
  /** Resolves when all is well; rejects with what is not. */
  readonly run: (signal: AbortSignal) => Promise<void>;
}

/** The checks of a config. */
export function hostChecks({ portChecks = [], httpChecks = [] }: Host, reach: HostingReach): HostCheck[] {
  return [
    ...portChecks.map((check) => ({
      ...common(check),
      name: check.address,
      run: (signal: AbortSignal) => checkPort(check, { reach, signal }),
    })),
    ...httpChecks.map((check) => ({
      ...common(check),
      name: check.url,
      run: (signal: AbortSignal) => checkHttp(check, { reach, signal }),
    })),
  ];
}

function common({ interval, timeout, actions }: PortCheck | HttpCheck) {
  return { interval: readDuration(interval)!, timeout: readDuration(timeout)!, actions };
}

interface CheckContext {
  readonly reach: HostingReach;
  readonly signal: AbortSignal;
}

async function checkPort({ address }: PortCheck, { reach, signal }: CheckContext): Promise<void> {
  const { hostname, port } = parseHostPort(address);
  await firstOf(await reach.addresses(hostname, port), signal, async (hostname) => {
    (await dialUpstream({ kind: "tcp", hostname, port }, { signal })).close();
  });
}

async function checkHttp(check: HttpCheck, { reach, signal }: CheckContext): Promise<void> {
  const url = new URL(check.url);
  await firstOf(await reach.addresses(hostOf(url), portOf(url)), signal, (address) =>
    probeHttp({
      url,
      address,
      method: check.method ?? "GET",
      body: check.body,
      expectStatus: check.expectStatus ?? 200,
      expectInBody: check.expectInBody,
      signal,
    }));
}

/** Tries addresses in turn, as a dial does; rejects with the last failure. */
async function firstOf(
  addresses: readonly string[],
  signal: AbortSignal,
  task: (address: string) => Promise<void>,
): Promise<void> {
  let failure: unknown;
  for (const address of addresses) {
    try {
      return await task(address);
    } catch (error) {
      signal.throwIfAborted();
      failure = error;
    }
  }
  throw failure;
}
