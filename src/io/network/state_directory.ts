/**
 * Where a node keeps what it must remember until the machine restarts: a folder that nobody else can write to,
 * since what stands there decides what is undone with our rights.
 */

import { GinnelError } from "../../base/errors.ts";

/** Returns the first of the usual folders that is ours alone, made where it is missing. */
export async function findStateDirectory(
  env: Readonly<Record<string, string | undefined>> = Deno.env.toObject(),
): Promise<string> {
  const refusals: string[] = [];
  for (const path of stateDirectories(env, Deno.uid() ?? 0)) {
    const refusal = await claim(path);
    if (refusal === undefined) return path;
    refusals.push(`${path}: ${refusal}`);
  }
  throw new GinnelError("ERR_STATE_DIRECTORY", `Cannot keep state anywhere: ${refusals.join("; ")}`, {
    hint: "Set RUNTIME_DIRECTORY to a folder that belongs to this user alone",
  });
}

/** Those of the usual folders that are there and ours alone. */
export async function presentStateDirectories(
  env: Readonly<Record<string, string | undefined>> = Deno.env.toObject(),
): Promise<string[]> {
  const present: string[] = [];
  for (const path of new Set(stateDirectories(env, Deno.uid() ?? 0))) {
    try {
      if (await refusalOf(path) === undefined) present.push(path);
    } catch (error) {
      const isClosed = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied;
      if (!isClosed) throw error;
    }
  }
  return present;
}

/** The candidates, best first. systemd may name several folders in RUNTIME_DIRECTORY; the first is ours. */
function stateDirectories(env: Readonly<Record<string, string | undefined>>, uid: number): string[] {
  const given = env["RUNTIME_DIRECTORY"]?.split(":")[0];
  const session = env["XDG_RUNTIME_DIR"];
  return [
    ...(isAbsolute(given) ? [given] : []),
    "/run/ginnel",
    ...(isAbsolute(session) ? [`${session}/ginnel`] : []),
    `/tmp/ginnel-${uid}`,
  ];
}

function isAbsolute(path: string | undefined): path is string {
  return path !== undefined && path.startsWith("/");
}

/** Makes or checks the folder; returns why it will not do. */
async function claim(path: string): Promise<string | undefined> {
  try {
    await Deno.mkdir(path, { mode: 0o700 });
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) return String(error);
  }
  return await refusalOf(path);
}

async function refusalOf(path: string): Promise<string | undefined> {
  const info = await Deno.lstat(path);
  // A folder that another user made first, or may write to, could make us undo what we never did.
  if (!info.isDirectory) return "not a folder";
  if (info.uid !== Deno.uid()) return "belongs to another user";
  if (((info.mode ?? 0) & 0o022) !== 0) return "others may write to it";
  return undefined;
}
