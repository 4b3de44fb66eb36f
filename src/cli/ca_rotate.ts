/** `ginnel ca rotate`: replacing the network's CA, one step a command, and what to wait for between the steps. */

import { activateCa, retireCas, stageCa } from "../identity/ca_rollover.ts";

/** Help of the command. */
export const ROTATE_HELP = `Usage: ginnel ca rotate STEP [--dir DIR] [--days N] [--json]

Replaces the network's CA without a gap. A running controller takes each step by itself within seconds.

  stage     make the next CA: it is trusted from now on and issues nothing yet. Go on when every node has been online
            since: one that has not learnt of the new CA cannot connect after the next step and has to enrol again.
            Enrolment tokens made before this step end with the next one, those made after it do not
  activate  let the next CA issue: nodes renew at once, the old CA stays trusted and its key is removed. Go on when
            the last certificate of the old CA was renewed or has expired
  retire    end the trust in the old CA: connections of nodes that have no certificate of the new one end

A step that was cut short is repeated.

  --dir DIR  directory of the CA
  --days N   stage: how long the next CA lasts
  --json     print the result as JSON
`;

/** The steps, in their order. */
export const ROTATE_STEPS = ["stage", "activate", "retire"] as const;

/** One of {@linkcode ROTATE_STEPS}. */
export type RotateStep = typeof ROTATE_STEPS[number];

/** Tells whether a word is a step. */
export function isRotateStep(word: string): word is RotateStep {
  return (ROTATE_STEPS as readonly string[]).includes(word);
}

/** Takes a step and returns what to tell the administrator. */
export async function rotateCa(
  step: RotateStep,
  options: { readonly directory: string; readonly days: number; readonly now: number },
): Promise<string> {
  const { directory, ...life } = options;
  switch (step) {
    case "stage":
      await stageCa(directory, life);
      return "Staged the next CA. Next, when every node has been online: ginnel ca rotate activate";
    case "activate":
      await activateCa(directory);
      return "The next CA issues now. Next, when the old one's certificates are gone: ginnel ca rotate retire";
    case "retire": {
      const count = await retireCas(directory);
      return `Ended the trust in ${count} earlier CA${count === 1 ? "" : "s"}`;
    }
  }
}
