/** Which controller an administrator or a user means on the command line. */

import { GinnelError } from "../../base/errors.ts";
import { learnController } from "./first_contact.ts";
import type { ControllerPlace } from "./https_client.ts";

/** A controller as people write it. */
export interface WrittenController {
  /** Undefined: whatever the controller at that address is called. */
  readonly name: string | undefined;
  readonly url: string;
}

/** Reads `https://HOST:PORT` or `NAME=https://HOST:PORT`; throws `ERR_CONTROLLER_URL` on anything else. */
export function parseController(text: string): WrittenController {
  const [, name, address = ""] = /^(?:([a-z0-9-]{1,63})=)?(https:\/\/.+)$/.exec(text) ?? [];
  if (URL.canParse(address)) return { name, url: new URL(address).origin };
  throw new GinnelError(
    "ERR_CONTROLLER_URL",
    `Cannot use the controller ${JSON.stringify(text)}: it is no address of one`,
    { hint: "Write https://HOST:PORT, or NAME=https://HOST:PORT" },
  );
}

/** Finds a controller's name where none is written: it is one of `known`, or what the controller itself says. */
export async function findController(
  { name, url }: WrittenController,
  options: { readonly known?: readonly ControllerPlace[]; readonly signal?: AbortSignal } = {},
): Promise<ControllerPlace> {
  const { known = [], signal } = options;
  if (name !== undefined) return { name, url };
  const namesake = known.find((place) => new URL(place.url).origin === url);
  return namesake ?? await learnController(url, signal === undefined ? {} : { signal });
}
