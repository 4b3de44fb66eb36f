/**
 * What an agent shows without any privilege: each service at a loopback address of its own, and its status.
 */

import { sleep } from "../../base/async.ts";
import { errorMessage } from "../../base/errors.ts";
import { askStatus } from "../../modes/status/ask_status.ts";
import type { CommandIo } from "../ca.ts";
import { describeStatus } from "../status_text.ts";
import { DEMO_HIGH_PORT } from "./demo_network.ts";

/** Milliseconds until the agent listens there. */
const TIMEOUT_MS = 10_000;

/** Asks the service at its own address and prints that and the agent's status; returns where it is, if it answered. */
export async function showOwnAddress(
  control: string,
  { io, signal }: { readonly io: CommandIo; readonly signal: AbortSignal },
): Promise<string | undefined> {
  const deadline = Date.now() + TIMEOUT_MS;
  let fault = "the agent lists no service";
  while (Date.now() < deadline) {
    try {
      const { url, text } = await askAtOwnAddress(control, signal);
      io.stdout(
        `\nWithout root every service has an address of its own in 127.0.0.0/8. Asked at ${url}, it said: ${text}`,
      );
      const status = describeStatus(await askStatus(control), { now: Date.now(), inColour: io.isTerminal });
      io.stdout(`\nThe agent's status, as ginnel status --socket ${control} prints it:\n\n`);
      io.stdout(status.replace(/^(?=.)/gm, "  "));
      return url;
    } catch (error) {
      signal.throwIfAborted();
      fault = errorMessage(error);
    }
    await sleep(100, { signal });
  }
  io.stderr(`\nThe service's own address did not work: ${fault}. The log named above says why.\n`);
  return undefined;
}

async function askAtOwnAddress(
  control: string,
  signal: AbortSignal,
): Promise<{ readonly url: string; readonly text: string }> {
  const status = await askStatus(control);
  const local = status.mode === "agent" ? status.services[0]?.addresses.local : undefined;
  if (local === undefined) throw new Error("it has none yet");
  const url = `http://${local}:${DEMO_HIGH_PORT}/`;
  const response = await fetch(`${url}own`, {
    signal: AbortSignal.any([signal, AbortSignal.timeout(5_000)]),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`the answer was ${response.status}`);
  return { url, text };
}
