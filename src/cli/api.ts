/** `ginnel api`: one request to a controller's API, for administrators and their scripts. */

import { text as readText } from "node:stream/consumers";
import { errorMessage } from "../base/errors.ts";
import { AdminClient, describeRefusal } from "../modes/admin/admin_client.ts";
import type { CommandIo } from "./ca.ts";
import { execute, EXIT, type Flags, UsageError } from "./command.ts";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;

const HELP = `Usage: ginnel api METHOD PATH [BODY] [--if-match ETAG] ACCESS

Makes one request to a controller's API and prints the JSON it answers with.

  METHOD  ${METHODS.join(", ")}
  PATH    such as /api/v1/identities?limit=10; without a leading / it is below /api/v1/
  BODY    JSON, @FILE, or - for standard input
  --if-match ETAG        only if the resource is still as it was then

ACCESS:
  --controller URL       the controller, such as https://controller.example.com:8441
  --ca FILE              the network's CA certificate, ca/ca.crt in the controller's folder
  --token-file FILE      file with an API token, mode 0600
  --identity FILE        an administrator's identity file, in place of all three

Exit codes: 0 done, 1 the controller refused or cannot be reached, 2 wrong command line.
`;

const FLAGS = {
  "controller": "text",
  "ca": "text",
  "identity": "text",
  "token-file": "text",
  "if-match": "text",
} as const;

/** Bytes of the largest body: what the API takes at most. */
const MAX_BODY = 4 << 20;

/** Runs `ginnel api ...` and returns the exit code; `stdin` is what `-` stands for. */
export function apiCommand(
  args: string[],
  io: CommandIo,
  stdin: () => Promise<string> = () => readText(Deno.stdin.readable),
): Promise<number> {
  const end = args.findIndex((word) => word.startsWith("-") && word !== "-");
  const words = end < 0 ? args : args.slice(0, end);
  const rest = end < 0 ? [] : args.slice(end);
  const run = (flags: Flags) => send(words, { flags, io, stdin });
  return execute({ name: "api", help: HELP, flags: FLAGS, run }, rest, io);
}

async function send(
  words: readonly string[],
  { flags, io, stdin }: {
    readonly flags: Flags;
    readonly io: CommandIo;
    readonly stdin: () => Promise<string>;
  },
): Promise<number> {
  const [word, path, body, ...others] = words;
  const method = METHODS.find((known) => known === word?.toUpperCase());
  if (method === undefined) throw new UsageError(`Missing METHOD, one of ${METHODS.join(", ")}`);
  if (path === undefined) throw new UsageError("Missing PATH");
  if (others.length > 0) throw new UsageError(`Unexpected argument ${JSON.stringify(others[0])}`);
  const json = body === undefined ? undefined : await readBody(body, stdin);
  const { controller, ca, identity, "token-file": tokenFile, "if-match": etag } = flags as Readonly<
    Record<string, string | undefined>
  >;
  using client = await AdminClient.open({ controller, ca, identity, tokenFile });
  const answer = await client.request({
    method,
    path: path.startsWith("/") ? path : `/api/v1/${path}`,
    ...(json !== undefined && { json }),
    ...(etag !== undefined && { headers: { "if-match": etag } }),
  });
  if (answer.json !== undefined) io.stdout(JSON.stringify(answer.json, undefined, 2) + "\n");
  if (answer.status >= 200 && answer.status < 300) return EXIT.done;
  io.stderr(`ginnel api: ${describeRefusal(answer)}\n`);
  return EXIT.failed;
}

async function readBody(body: string, stdin: () => Promise<string>): Promise<unknown> {
  const text = body === "-" ? await stdin() : body.startsWith("@") ? await readFile(body.slice(1)) : body;
  if (text.length > MAX_BODY) throw new UsageError(`BODY has more than ${MAX_BODY} bytes`);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UsageError(`BODY is not JSON: ${errorMessage(error)}`);
  }
}

async function readFile(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    throw new UsageError(`Cannot read ${path}: ${errorMessage(error)}`);
  }
}
