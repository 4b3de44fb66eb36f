/** Which services an identity may reach and offer now, asked of its controllers. */

import { z } from "zod";
import { GinnelError } from "../../base/errors.ts";
import type { Identity } from "../../identity/identity_file.ts";
import { controllerClient } from "./controller_client.ts";

const Rights = z.object({ dial: z.array(z.string().max(253)), bind: z.array(z.string().max(253)) });

/** Names of services. */
export interface OwnServices {
  readonly dial: readonly string[];
  readonly bind: readonly string[];
}

/** Milliseconds a person waits for what is only part of the answer. */
const TIMEOUT_MS = 3_000;

/** Asks the controllers that the identity names; undefined where it names none. Throws when none answers. */
export async function fetchOwnServices(identity: Identity): Promise<OwnServices | undefined> {
  if ((identity.network?.controllers ?? []).length === 0) return undefined;
  using http = controllerClient(() => identity, { timeoutMs: TIMEOUT_MS });
  const { status, json, controller } = await http.request({ method: "GET", path: "/enrolment/v1/rights" });
  const rights = Rights.safeParse(json);
  if (status === 200 && rights.success) return rights.data;
  throw new GinnelError("ERR_CONTROLLER_ANSWER", `${controller} does not say: HTTP ${status}`);
}
