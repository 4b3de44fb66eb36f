/**
 * What a node without an identity file of its own has to trust, as SVID files need it: the network document a controller
 * gives now, and the authorities that an enrolled identity has pinned.
 */

import { z } from "zod";
import { GinnelError } from "../../base/errors.ts";
import { loadIdentity } from "../../identity/identity_file.ts";
import { verifyNetworkDocument } from "../../identity/network_document.ts";
import { writeSecretFile } from "../../identity/secret_file.ts";
import { formatTrustFile } from "../../identity/svid_files.ts";
import { controllerClient } from "./controller_client.ts";

const Answer = z.object({ network: z.string() });

/** Asks a controller of the identity's network, and returns the text of a trust file; nothing in it is secret. */
export async function fetchTrust(identityPath: string): Promise<string> {
  const identity = await loadIdentity(identityPath);
  const { trust, network } = identity;
  if (network === undefined || network.controllers.length === 0) {
    throw new GinnelError("ERR_NO_CONTROLLER", `Cannot ask: ${identityPath} names no controller`, {
      hint: "Use an identity that was enrolled at a controller",
    });
  }
  using http = controllerClient(() => identity);
  const { status, json, controller } = await http.request({ method: "GET", path: "/enrolment/v1/network" });
  const answer = Answer.safeParse(json);
  if (status !== 200 || !answer.success) {
    throw new GinnelError("ERR_CONTROLLER_ANSWER", `${controller} gives no network document: HTTP ${status}`);
  }
  const document = await verifyNetworkDocument(answer.data.network, {
    authorities: trust.authorities,
    trustDomain: trust.domain,
    minRev: network.rev,
    minIat: network.iat,
  });
  const { authorities } = document;
  // The document that is handed on must verify by what is pinned beside it.
  const text = formatTrustFile({ trustDomain: trust.domain, authorities, network: answer.data.network });
  await verifyNetworkDocument(answer.data.network, { authorities, trustDomain: trust.domain });
  return text;
}

/** Writes a trust file, readable by all, in the place of an older one if there is one. */
export async function writeTrust(path: string, text: string): Promise<void> {
  await writeSecretFile(path, text, { replace: true, mode: 0o644 });
}
