/**
 * Files that hold keys: created for their owner only, complete or not at all, never overwritten by
 * accident, and refused when others can read them.
 */

import { dirname } from "node:path";
import { errorMessage, type GinnelErrorOptions } from "../base/errors.ts";
import { utf8, utf8Decode } from "../base/bytes.ts";
import { removeIfPresent } from "../base/paths.ts";
import { IdentityError, type IdentityFileErrorCode } from "./errors.ts";

/** Mode of every file that holds a key: its owner may read and write it, nobody else anything. */
const SECRET_FILE_MODE = 0o600;

/** Largest identity, key or certificate file that is read, in bytes: an identity file holds a network's facts too. */
export const MAX_FILE_LENGTH = 4 << 20;

const OTHERS_MASK = 0o077;

/** How to write a file. */
export interface WriteOptions {
  /** Replace an existing file; default false: it is kept and `ERR_IDENTITY_FILE_EXISTS` thrown. */
  readonly replace?: boolean;
  /** Default 0600. */
  readonly mode?: number;
}

/** Writes a file that holds a key, mode 0600: after a crash it is there whole or not at all. */
export async function writeSecretFile(path: string, text: string, options: WriteOptions = {}): Promise<void> {
  const { replace = false, mode = SECRET_FILE_MODE } = options;
  const temporary = `${path}.${crypto.randomUUID()}.tmp`;
  try {
    if (!replace) await reserve(path, mode);
    await writeNewFile(temporary, { bytes: utf8(text), mode });
    await Deno.rename(temporary, path);
    await syncDirectory(dirname(path));
  } catch (cause) {
    if (cause instanceof IdentityError) throw cause;
    await removeIfPresent(temporary);
    if (!replace) await removeIfPresent(path);
    throw fileError("ERR_IDENTITY_FILE_UNWRITABLE", `Cannot write ${path}: ${errorMessage(cause)}`, {
      cause,
    });
  }
}

/** Reads a text file that only its owner may read; refuses it with the command that mends it otherwise. */
export function readSecretFile(path: string): Promise<string> {
  return readFile(path, assertPrivate);
}

/** Reads a text file of at most {@linkcode MAX_FILE_LENGTH} bytes. */
export function readPublicFile(path: string): Promise<string> {
  return readFile(path, () => {});
}

async function readFile(path: string, check: (path: string, info: Deno.FileInfo) => void): Promise<string> {
  let bytes: Uint8Array;
  try {
    using file = await Deno.open(path);
    // The open file is judged, not the path: nothing can be swapped between the check and the read.
    const info = await file.stat();
    if (!info.isFile) {
      throw fileError("ERR_IDENTITY_FILE_UNREADABLE", `Cannot read ${path}: it is not a file`);
    }
    check(path, info);
    bytes = await readBounded(file, { path, size: info.size });
  } catch (cause) {
    if (cause instanceof IdentityError) throw cause;
    if (cause instanceof Deno.errors.NotFound) {
      throw fileError("ERR_IDENTITY_FILE_MISSING", `Cannot read ${path}: there is no such file`, { cause });
    }
    throw fileError("ERR_IDENTITY_FILE_UNREADABLE", `Cannot read ${path}: ${errorMessage(cause)}`, { cause });
  }
  try {
    return utf8Decode(bytes);
  } catch {
    throw fileError("ERR_IDENTITY_FILE_CORRUPT", `Cannot read ${path}: it is not UTF-8 text`);
  }
}

async function readBounded(
  file: Deno.FsFile,
  options: { readonly path: string; readonly size: number },
): Promise<Uint8Array> {
  const { path, size } = options;
  if (size > MAX_FILE_LENGTH) {
    throw fileError(
      "ERR_IDENTITY_FILE_CORRUPT",
      `Cannot read ${path}: it has more than ${MAX_FILE_LENGTH} bytes`,
    );
  }
  const bytes = new Uint8Array(size);
  let length = 0;
  while (length < size) {
    const count = await file.read(bytes.subarray(length));
    if (count === null) break;
    length += count;
  }
  return bytes.subarray(0, length);
}

function assertPrivate(path: string, info: Deno.FileInfo): void {
  if (info.mode === null || (info.mode & OTHERS_MASK) === 0) return;
  const mode = (info.mode & 0o777).toString(8).padStart(4, "0");
  throw fileError(
    "ERR_KEY_FILE_READABLE",
    `Cannot use ${path}: its mode ${mode} lets other users at the private key`,
    {
      hint: `chmod 600 ${quote(path)}`,
    },
  );
}

/** A path as a shell takes it. */
function quote(path: string): string {
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", `'\\''`)}'`;
}

/** Takes the name with an empty file, so that two writers can never both believe they made it. */
async function reserve(path: string, mode: number): Promise<void> {
  try {
    using _file = await Deno.open(path, { write: true, createNew: true, mode });
  } catch (cause) {
    if (cause instanceof Deno.errors.AlreadyExists) {
      throw fileError("ERR_IDENTITY_FILE_EXISTS", `Cannot write ${path}: it exists already`, {
        cause,
        hint: "Move it away first, or choose another file",
      });
    }
    throw fileError("ERR_IDENTITY_FILE_UNWRITABLE", `Cannot write ${path}: ${errorMessage(cause)}`, {
      cause,
    });
  }
}

async function writeNewFile(
  path: string,
  options: { readonly bytes: Uint8Array; readonly mode: number },
): Promise<void> {
  const { bytes, mode } = options;
  using file = await Deno.open(path, { write: true, createNew: true, mode });
  let offset = 0;
  while (offset < bytes.length) offset += await file.write(bytes.subarray(offset));
  await file.sync();
}

async function syncDirectory(path: string): Promise<void> {
  using directory = await Deno.open(path);
  await directory.sync();
}

function fileError(
  code: IdentityFileErrorCode,
  message: string,
  options: GinnelErrorOptions = {},
): IdentityError {
  return new IdentityError(code, message, options);
}
