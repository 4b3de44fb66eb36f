/** Health checks of `host.v1`: what a connector asks of its upstream, and what follows from the answers. */

import { z } from "zod";
import { parseHostPort } from "../../base/address.ts";

/** A length of time as text, such as `500ms`, `5s` or `1m30s`, within bounds given in milliseconds. */
function durationText({ min, max }: { readonly min: number; readonly max: number }) {
  return z.string().max(32).refine((text) => {
    const milliseconds = readDuration(text);
    return milliseconds !== undefined && milliseconds >= min && milliseconds <= max;
  }, {
    message: `not a duration from ${min / 1_000}s to ${max / 1_000}s: write one such as 500ms, 5s or 1m30s`,
  });
}

const interval = durationText({ min: 1_000, max: 3_600_000 }).describe("Between two checks, such as `5s`.");
const timeout = durationText({ min: 100, max: 60_000 }).describe("How long a check may take.");

const checkAction = z.strictObject({
  trigger: z.enum(["fail", "pass"]).describe("What the checks must have done."),
  duration: durationText({ min: 0, max: 86_400_000 }).exactOptional().describe("For how long."),
  consecutiveEvents: z.int().min(1).max(1_000).exactOptional().describe(
    "How many times in a row; 1 when neither is given.",
  ),
  action: z.string().regex(
    /^(?:mark (?:un)?healthy|(?:increase|decrease) cost (?:0|[1-9][0-9]{0,4}))$/,
    "not an action: write mark unhealthy, mark healthy, increase cost N or decrease cost N",
  ).describe("`mark unhealthy`, `mark healthy`, `increase cost N` or `decrease cost N`."),
});

const actions = z.array(checkAction).max(20).readonly().exactOptional().describe(
  "What follows; absent: unhealthy after a failure, healthy after a pass.",
);

/** Whether the upstream accepts connections. */
export const portCheckSchema = z.strictObject({
  address: z.string().min(1).max(262).refine(isHostPort, {
    message: "not an address: write host:port or [ipv6]:port",
  }).describe("`host:port`."),
  interval,
  timeout,
  actions,
});

/** Whether the upstream answers an HTTP request as it should. */
export const httpCheckSchema = z.strictObject({
  url: z.url({ protocol: /^https?$/ }).max(2_048).describe("What to ask."),
  method: z.enum(["GET", "POST", "PUT", "PATCH"]).exactOptional().describe("GET when absent."),
  body: z.string().max(4_096).exactOptional().describe("What to send."),
  expectStatus: z.int().min(100).max(599).exactOptional().describe("200 when absent."),
  expectInBody: z.string().min(1).max(1_024).exactOptional().describe("Text that the answer holds."),
  interval,
  timeout,
  actions,
});

/** See {@linkcode portCheckSchema}. */
export type PortCheck = Readonly<z.output<typeof portCheckSchema>>;

/** See {@linkcode httpCheckSchema}. */
export type HttpCheck = Readonly<z.output<typeof httpCheckSchema>>;

/** What follows when checks fail or pass. */
export type CheckAction = Readonly<z.output<typeof checkAction>>;

/** Milliseconds of a length of time as `host.v1` writes it; undefined when it is none. */
export function readDuration(text: string): number | undefined {
  if (!/^(?:[0-9]{1,9}(?:ms|s|m|h))+$/.test(text)) return undefined;
  let milliseconds = 0;
  for (const [, digits, unit] of text.matchAll(/([0-9]+)(ms|s|m|h)/g)) {
    milliseconds += Number(digits) * UNIT_MS[unit as keyof typeof UNIT_MS];
  }
  return milliseconds;
}

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 } as const;

function isHostPort(text: string): boolean {
  try {
    return parseHostPort(text).port > 0;
  } catch {
    // Only what is no address is thrown.
    return false;
  }
}
