/** What a controller answers to an enrolment or renewal: the certificate, or why there is none, in its own words. */

import { z } from "zod";
import { GinnelError } from "../../base/errors.ts";
import type { ControllerResponse } from "../../io/controller/https_client.ts";

/** Shape of an answer with a certificate. */
export const Certified = z.object({ identity: z.string(), certificate: z.string(), network: z.string() });
const Problem = z.object({
  title: z.string(),
  detail: z.string().optional(),
  errors: z.array(z.object({ field: z.string(), message: z.string() })).optional(),
});

/** A certificate with the signed network document; neither is verified yet. */
export type Certified = Readonly<z.output<typeof Certified>>;

/** Reads an answer; throws `ERR_ENROLMENT_REFUSED` when it is a refusal. */
export function readCertified({ status, json, controller }: ControllerResponse): Certified {
  if (status === 200) {
    const answer = Certified.safeParse(json);
    if (answer.success) return answer.data;
    throw new GinnelError(
      "ERR_CONTROLLER_ANSWER",
      `Cannot use the answer of ${controller}: it has no certificate`,
    );
  }
  const problem = Problem.safeParse(json);
  const said = problem.success ? problem.data.detail ?? problem.data.title : `HTTP status ${status}`;
  // 5xx and 429 are about the controller, everything else about what was asked.
  const isPassing = status >= 500 || status === 429;
  throw new GinnelError(
    isPassing ? "ERR_CONTROLLER_UNAVAILABLE" : "ERR_ENROLMENT_REFUSED",
    `${controller} gives no certificate: ${printable(said)}`,
    isPassing ? { hint: "Try again later" } : {},
  );
}

/** What a server says goes to a terminal: one line, no control characters. */
function printable(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.slice(0, 500).replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ");
}
