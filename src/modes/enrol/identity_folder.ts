/** The identity files of a folder, good ones and broken ones; other files there are none of its business. */

import { join } from "node:path";
import { errorMessage } from "../../base/errors.ts";
import { type Identity, loadIdentity } from "../../identity/identity_file.ts";
import { readPublicFile } from "../../identity/secret_file.ts";

/** One identity file: what it holds, or what is wrong with it. */
export type FoundIdentity =
  | { readonly path: string; readonly identity: Identity }
  | { readonly path: string; readonly fault: string };

/** Reads an identity file and checks it as a whole. */
export async function judgeIdentity(path: string, now: number): Promise<FoundIdentity> {
  try {
    return { path, identity: await loadIdentity(path, { now }) };
  } catch (error) {
    return { path, fault: errorMessage(error) };
  }
}

/** Finds the identity files of a folder, by name order. */
export async function findIdentities(folder: string, now: number): Promise<readonly FoundIdentity[]> {
  const names: string[] = [];
  for await (const entry of Deno.readDir(folder)) {
    if (entry.isFile && entry.name.endsWith(".json")) names.push(entry.name);
  }
  const found: FoundIdentity[] = [];
  for (const name of names.sort()) {
    const path = join(folder, name);
    if (await isIdentityFile(path)) found.push(await judgeIdentity(path, now));
  }
  return found;
}

/** Config files end in `.json` too: an identity file has a key and trust, or says so by its name. */
async function isIdentityFile(path: string): Promise<boolean> {
  if (path.endsWith(".identity.json")) return true;
  try {
    const value: unknown = JSON.parse(await readPublicFile(path));
    return typeof value === "object" && value !== null && "privateKey" in value && "trust" in value;
  } catch {
    // What cannot be read as JSON and is not called an identity is something else.
    return false;
  }
}
