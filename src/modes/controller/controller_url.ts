/** Where nodes and administrators find a controller. */

import type { ControllerSettings } from "../../config/schema/controller.ts";

/** The URL that the settings give, or that follows from the first name in the certificate and the port. */
export function controllerUrl(
  { url, names }: Pick<ControllerSettings, "url" | "names">,
  port: number,
): string {
  if (url !== undefined) return url;
  const host = names[0] ?? "localhost";
  return `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
}
