/** How a controller reaches OpenID providers, as its settings say. */

import type { Logger } from "../../base/log.ts";
import type { ControllerSettings } from "../../config/schema/controller.ts";
import { readCaFile } from "../../identity/ca_file.ts";
import { ProviderDirectory } from "../../io/oidc/provider_directory.ts";

/** Opens the directory of providers; rejects when the file with their CAs cannot be used. */
export async function openProviders(
  { oidc }: Pick<ControllerSettings, "oidc">,
  { logger }: { readonly logger: Logger },
): Promise<ProviderDirectory> {
  const { allowPrivate, ca } = oidc;
  return new ProviderDirectory({
    allowPrivate,
    ...(ca !== undefined && { roots: await readCaFile(ca) }),
    logger,
  });
}
