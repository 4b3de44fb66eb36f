/** Asks a running node how it is, at its control socket. */

import { Buffer } from "node:buffer";
import { request } from "node:http";
import { join } from "node:path";
import { errorMessage, GinnelError } from "../../base/errors.ts";
import type { AgentStatus } from "../agent/agent_status.ts";
import type { ConnectorStatus } from "../connector/connector_status.ts";
import { controlFolders, controlName, processSurroundings } from "../shared/control_path.ts";
import type { SpiffeId } from "../../identity/spiffe_id.ts";

/** What a node answers. */
export type AnyStatus = AgentStatus | ConnectorStatus;

/** Milliseconds that a node has to answer: it asks its relays first. */
const TIMEOUT = 5_000;

/** Bytes of the longest answer that is read: ten times that of an agent with 1,000 services. */
const MAX_ANSWER = 8 * 1024 * 1024;

/** Asks at a socket; rejects with `ERR_NOT_RUNNING` when no node listens there. */
export async function askStatus(socketPath: string): Promise<AnyStatus> {
  const { status, text } = await get(socketPath);
  const answer = readJson(text);
  if (status === 200 && (answer?.mode === "agent" || answer?.mode === "connector")) {
    return answer as unknown as AnyStatus;
  }
  const reason = typeof answer?.error === "string" ? answer.error : `HTTP status ${status}`;
  throw new GinnelError("ERR_STATUS_REFUSED", `What listens at ${socketPath} tells no status: ${reason}`);
}

/** The sockets of nodes on this machine that this user may know of, those of killed ones too. */
export async function findControlSockets(): Promise<string[]> {
  const found: string[] = [];
  for (const folder of controlFolders(processSurroundings())) {
    try {
      for await (const { name } of Deno.readDir(folder)) {
        if (name.endsWith(".sock")) found.push(join(folder, name));
      }
    } catch (error) {
      const isClosed = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied;
      if (!isClosed) throw error;
    }
  }
  return found.sort();
}

/** Where a node of this identity may listen when its config does not say. */
export function controlSocketsOf(id: SpiffeId): string[] {
  return controlFolders(processSurroundings()).map((folder) => join(folder, controlName(id)));
}

function get(socketPath: string): Promise<{ readonly status: number; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const asked = request(
      { socketPath, path: "/status", signal: AbortSignal.timeout(TIMEOUT) },
      (response) => {
        const chunks: Uint8Array[] = [];
        let length = 0;
        response.on("data", (chunk: Uint8Array) => {
          length += chunk.length;
          if (length > MAX_ANSWER) {
            return void asked.destroy(new Error(`The answer is longer than ${MAX_ANSWER} bytes`));
          }
          chunks.push(chunk);
        });
        response.on("error", reject);
        response.on("end", () => {
          resolve({
            status: response.statusCode ?? 0,
            text: new TextDecoder().decode(Buffer.concat(chunks)),
          });
        });
      },
    );
    asked.on("error", (cause) => reject(unreachable(socketPath, cause)));
    asked.end();
  });
}

function unreachable(path: string, cause: unknown): GinnelError {
  const code = (cause as { code?: string }).code;
  if (code === "EACCES" || code === "EPERM") {
    const hint = "Ask as the user it runs as, or as root";
    return new GinnelError("ERR_STATUS_DENIED", `You may not ask the node at ${path}`, { cause, hint });
  }
  if (code === "ENOENT" || code === "ECONNREFUSED" || code === "ENOTSOCK") {
    const hint = "Start it: ginnel run, or systemctl start ginnel-agent";
    return new GinnelError("ERR_NOT_RUNNING", `No node listens at ${path}`, { cause, hint });
  }
  return new GinnelError("ERR_STATUS_REFUSED", `No answer at ${path}: ${errorMessage(cause)}`, { cause });
}

function readJson(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value as Record<string, unknown> : undefined;
  } catch {
    // Whoever answers in another language is no node of ours.
    return undefined;
  }
}
