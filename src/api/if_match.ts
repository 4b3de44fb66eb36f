/** Reads If-Match into the revision a write rests on. */

import type { WriteContext } from "../core/network/administration.ts";
import { problem } from "./problem.ts";
import type { Principal } from "../core/network/access.ts";

/** What a write rests on, or the answer that refuses it. `current` tells the revision there is now. */
export async function writeContext(
  header: string | undefined,
  { by, current }: { readonly by: Principal; readonly current: () => Promise<number | undefined> },
): Promise<WriteContext | Response> {
  if (header === undefined || header.trim() === "*") return { by };
  // RFC 9110 §13.1.1: the strong comparison, so a weak tag matches nothing, nor does one we never gave.
  const wanted = header.split(",").flatMap((tag) => {
    const match = /^\s*"([0-9]{1,15})"\s*$/.exec(tag);
    return match === null ? [] : [Number(match[1])];
  });
  const revision = wanted.length > 1 ? await current() : wanted[0];
  if (revision !== undefined && wanted.includes(revision)) return { by, ifRevision: revision };
  return problem("changed", { detail: "No entity tag in If-Match is the resource's" });
}
