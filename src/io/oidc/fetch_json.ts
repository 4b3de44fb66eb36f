/**
 * One GET of a JSON document at an address that was judged first: bounded in time and size, no redirects, and connected
 * to the very address that passed, whatever the name resolves to a moment later.
 */

import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { rootCertificates } from "node:tls";
import type { IncomingHttpHeaders, IncomingMessage, RequestOptions } from "node:http";
import { concat, utf8Decode } from "../../base/bytes.ts";
import { withDeadline } from "../../base/async.ts";
import { errorMessage, GinnelError } from "../../base/errors.ts";
import { formatIp, type IpAddress, parseIp } from "../../base/ip.ts";
import { type AllowedPrivate, isLoopback, isPublicAddress } from "./public_address.ts";

/** How to fetch. */
export interface FetchJsonOptions {
  readonly allowed: AllowedPrivate;
  /** All addresses of a name, as text. */
  readonly resolve: (host: string) => Promise<readonly string[]>;
  /** CA certificates, PEM, trusted beside the built-in ones. */
  readonly roots?: readonly string[];
  /** Milliseconds for everything, resolving included; default 5 s. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

/** A JSON document and its headers. */
export interface FetchedJson {
  readonly value: unknown;
  readonly headers: IncomingHttpHeaders;
}

const DEFAULT_TIMEOUT_MS = 5_000;

/** Largest document, in bytes: Google's and Microsoft's key sets have 2 to 20 KB. */
const MAX_BODY_LENGTH = 256 * 1024;

/** Fetches a JSON document; throws `ERR_OIDC_ADDRESS` where it must not look, `ERR_OIDC_FETCH` where it fails. */
export async function fetchJson(url: string, options: FetchJsonOptions): Promise<FetchedJson> {
  const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
  const target = readUrl(url);
  try {
    return await withDeadline(
      timeoutMs,
      async (deadline) => {
        const addresses = await judgedAddresses(target, options);
        deadline.throwIfAborted();
        return await get(target, { ...options, addresses, signal: deadline });
      },
      signal === undefined ? {} : { signal },
    );
  } catch (cause) {
    if (cause instanceof GinnelError) throw cause;
    throw failed(url, errorMessage(cause), cause);
  }
}

function readUrl(url: string): URL {
  const target = URL.parse(url);
  if (target === null || !["https:", "http:"].includes(target.protocol)) {
    throw refused(url, "it is no https URL");
  }
  if (target.username !== "" || target.password !== "") throw refused(url, "it carries a password");
  return target;
}

/** The addresses of a URL's host that may be connected to; throws when there is none. */
async function judgedAddresses(target: URL, options: FetchJsonOptions): Promise<readonly IpAddress[]> {
  const host = target.hostname.replace(/^\[|\]$/g, "");
  const literal = parseIp(host);
  const addresses = literal === undefined
    ? (await options.resolve(host)).map(parseIp).filter((address) => address !== undefined)
    : [literal];
  const admitted = addresses.filter((address) => {
    if (target.protocol === "http:" && !isLoopback(address)) return false;
    return isPublicAddress(address) || options.allowed.allows(host, address);
  });
  if (admitted.length > 0) return admitted;
  const where = addresses.map(formatIp).join(", ") || "no address";
  throw refused(
    target.href,
    target.protocol === "http:"
      ? "it is not https, and only an allowed loopback address may be reached without"
      : `${host} is ${where}, which is not public`,
  );
}

function get(
  target: URL,
  options: FetchJsonOptions & { readonly addresses: readonly IpAddress[]; readonly signal: AbortSignal },
): Promise<FetchedJson> {
  const { addresses, signal, roots } = options;
  const isTls = target.protocol === "https:";
  const found = addresses.map((address) => ({ address: formatIp(address), family: address.version }));
  const settings: RequestOptions & { ca?: string[] } = {
    method: "GET",
    headers: { accept: "application/json", "user-agent": "ginnel" },
    agent: false,
    signal,
    // The name was resolved and judged already: asking again could give another answer.
    lookup:
      ((_host: string, { all }: { all?: boolean }, done: (...result: unknown[]) => void) =>
        all === true ? done(null, found) : done(null, found[0]!.address, found[0]!.family)) as never,
    ...(roots === undefined || roots.length === 0 ? {} : { ca: [...rootCertificates, ...roots] }),
  };
  return new Promise((resolve, reject) => {
    const request = (isTls ? httpsRequest : httpRequest)(target, settings, (response) => {
      readJson(response, target.href).then(resolve, reject).finally(() => request.destroy());
    });
    request.on("error", reject);
    request.end();
  });
}

async function readJson(response: IncomingMessage, url: string): Promise<FetchedJson> {
  // Redirects are answers like any other that is not 200: what they name was not judged.
  if (response.statusCode !== 200) throw failed(url, `it answers with status ${response.statusCode}`);
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of response) {
    length += part.length;
    if (length > MAX_BODY_LENGTH) throw failed(url, `it answers with more than ${MAX_BODY_LENGTH} bytes`);
    parts.push(part);
  }
  try {
    return { value: JSON.parse(utf8Decode(concat(parts))), headers: response.headers };
  } catch (cause) {
    throw failed(url, "it does not answer with JSON", cause);
  }
}

function refused(url: string, reason: string): GinnelError {
  return new GinnelError("ERR_OIDC_ADDRESS", `Cannot fetch ${url}: ${reason}`, {
    hint: "If the provider is inside your own network, name its host or prefix in oidc.allowPrivate",
  });
}

function failed(url: string, reason: string, cause?: unknown): GinnelError {
  return new GinnelError("ERR_OIDC_FETCH", `Cannot fetch ${url}: ${reason}`, { cause });
}
