/** What the checks of a `host.v1` config make of a service: whether it takes flows, and what one costs. */

import { type CheckAction, readDuration } from "./host_checks.ts";

const MAX_COST = 65_535;

/** Of a check that names no actions: it decides alone. */
const DEFAULT_ACTIONS: readonly CheckAction[] = [
  { trigger: "fail", action: "mark unhealthy" },
  { trigger: "pass", action: "mark healthy" },
];

/** The health of one service. It is healthy while no check has it marked, and at first. */
export class HostHealth {
  readonly #baseCost: number;
  readonly #checks: readonly CheckState[];
  #extraCost = 0;

  /** `checks`: the actions of each check. */
  constructor(
    checks: readonly (readonly CheckAction[] | undefined)[],
    options: { readonly cost?: number | undefined } = {},
  ) {
    this.#baseCost = options.cost ?? 0;
    this.#checks = checks.map((actions) => ({
      actions: rulesOf(actions),
      healthy: true,
      result: undefined,
      count: 0,
      since: 0,
    }));
  }

  get isHealthy(): boolean {
    return this.#checks.every(({ healthy }) => healthy);
  }

  get cost(): number {
    return Math.min(MAX_COST, this.#baseCost + this.#extraCost);
  }

  /** Takes a result of the check at `index`; an action follows each result as long as its condition holds. */
  record(index: number, passed: boolean, now: number): void {
    const check = this.#checks[index]!;
    if (check.result !== passed) {
      check.result = passed;
      check.count = 0;
      check.since = now;
    }
    check.count++;
    for (const { onPass, count, duration, effect } of check.actions) {
      if (onPass !== passed || check.count < count || now - check.since < duration) continue;
      if (typeof effect === "boolean") check.healthy = effect;
      else {
        this.#extraCost = Math.min(MAX_COST - this.#baseCost, Math.max(0, this.#extraCost + effect));
      }
    }
  }
}

interface CheckState {
  readonly actions: readonly Rule[];
  healthy: boolean;
  result: boolean | undefined;
  /** Equal results in a row, and when the first of them came. */
  count: number;
  since: number;
}

interface Rule {
  readonly onPass: boolean;
  readonly count: number;
  readonly duration: number;
  /** Whether it is healthy now, or how much more it costs. */
  readonly effect: boolean | number;
}

function rulesOf(actions: readonly CheckAction[] = DEFAULT_ACTIONS): Rule[] {
  const rules = actions.map(({ trigger, duration, consecutiveEvents, action }) => ({
    onPass: trigger === "pass",
    count: consecutiveEvents ?? 1,
    duration: readDuration(duration ?? "0s")!,
    effect: effectOf(action),
  }));
  // What can be marked can be healed: without a word on how, the first check that passes does it.
  if (rules.some(({ effect }) => effect === false) && !rules.some(({ effect }) => effect === true)) {
    rules.push({ onPass: true, count: 1, duration: 0, effect: true });
  }
  return rules;
}

function effectOf(action: string): boolean | number {
  if (action.startsWith("mark")) return action === "mark healthy";
  const amount = Number(action.slice(action.lastIndexOf(" ") + 1));
  return action.startsWith("increase") ? amount : -amount;
}
