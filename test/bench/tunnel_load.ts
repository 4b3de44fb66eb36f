/** Load for tunnels: paced UDP by `tools/udpload.c`, and the search for the rate that gets through. */

import { runCommand } from "../support/processes.ts";
import type { Direction, LoadTarget } from "./load.ts";

/** What one run of `udpload` came to. */
export interface UdpResult {
  readonly sent: number;
  readonly received: number;
  readonly perSecond: number;
  readonly lossPercent: number;
}

/** One run's load. */
export interface UdpLoad {
  readonly udpload: string;
  readonly direction: Direction;
  /** Bytes of UDP payload. */
  readonly size: number;
  /** Packets per second. */
  readonly rate: number;
  readonly milliseconds: number;
  /** Packets handed to the kernel in one piece; default 1. */
  readonly segments?: number;
}

/** What counts as getting through. */
const MAX_LOSS_PERCENT = 1;
const FIRST_RATE = 40_000;
const MAX_RATE = 2_000_000;
const MIN_RATE = 2_500;
const STEP = 1.4;
/** A sender that reaches less than this share of the rate is itself the limit. */
const SATURATED = 0.95;
const STEP_MS = 1_000;
/** How often a rate is tried before it counts as failed: shared cores stall now and then. */
const TRIES = 3;

/** Sends datagrams at one rate and counts what arrives. */
export async function measureUdp(target: LoadTarget, load: UdpLoad): Promise<UdpResult> {
  const { udpload, direction, size, rate, milliseconds, segments = 1 } = load;
  return JSON.parse(
    await runCommand(target.wrap([
      ...[udpload, direction, target.hostname, `${target.port}`],
      ...[`${size}`, `${Math.round(rate)}`, `${milliseconds}`, `${segments}`],
    ])),
  );
}

/**
 * The highest rate that arrives with less than 1 % loss: steps up until one fails, then narrows once between the last
 * that passed and the first that failed. Where even the first fails, it steps down; 0 when nothing gets through so.
 */
export async function searchRate(measure: (rate: number) => Promise<UdpResult>): Promise<number> {
  let best = 0, passed = 0;
  /** Whether the rate gets through; where it does not, whether the sender was the limit. */
  const attempt = async (rate: number) => {
    let saturated = false;
    for (let i = 0; i < TRIES; i++) {
      const { lossPercent, perSecond } = await measure(rate);
      if (lossPercent >= MAX_LOSS_PERCENT) continue;
      best = Math.max(best, perSecond);
      if (perSecond >= rate * SATURATED) return "passed";
      saturated = true;
    }
    return saturated ? "saturated" : "failed";
  };
  for (let rate = FIRST_RATE; rate <= MAX_RATE; rate *= STEP) {
    const outcome = await attempt(rate);
    if (outcome === "passed") {
      passed = rate;
      continue;
    }
    if (outcome === "failed" && passed > 0) await attempt((passed + rate) / 2);
    break;
  }
  for (let rate = FIRST_RATE / STEP; best === 0 && rate >= MIN_RATE; rate /= STEP) await attempt(rate);
  return best;
}

/** {@linkcode searchRate} over one target. */
export function searchUdpRate(
  target: LoadTarget,
  load: Omit<UdpLoad, "rate" | "milliseconds">,
): Promise<number> {
  return searchRate((rate) => measureUdp(target, { ...load, rate, milliseconds: STEP_MS }));
}
