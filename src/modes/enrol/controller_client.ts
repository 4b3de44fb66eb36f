/** A client of the controllers that an identity knows, which shows a proof with every request. */

import type { Identity } from "../../identity/identity_file.ts";
import { createProof } from "../../identity/proof.ts";
import { ControllerHttp, type ControllerPlace } from "../../io/controller/https_client.ts";

/** Makes the client; `identity` is asked anew for each request, since it changes while a node runs. */
export function controllerClient(
  identity: () => Identity,
  options: {
    /** Default: those of the network document that the identity holds. */
    readonly controllers?: () => readonly ControllerPlace[];
    readonly timeoutMs?: number;
  } = {},
): ControllerHttp {
  const { controllers = () => identity().network?.controllers ?? [], timeoutMs } = options;
  return new ControllerHttp({
    controllers,
    roots: () => identity().trust.roots,
    authorization: (audience) => createProof({ identity: identity(), audience, now: Date.now() }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  });
}
