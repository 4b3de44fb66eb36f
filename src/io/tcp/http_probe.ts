/** One HTTP request to a known address, to see whether the answer is as it should be. Follows no redirects. */

import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { concat, utf8 } from "../../base/bytes.ts";
import { GinnelError } from "../../base/errors.ts";
import { parseIp } from "../../base/ip.ts";

/** What to ask, and what the answer must be. */
export interface HttpProbe {
  readonly url: URL;
  /** The address to connect to; the URL's host is who is asked for. */
  readonly address: string;
  readonly method: string;
  readonly body?: string | undefined;
  readonly expectStatus: number;
  readonly expectInBody?: string | undefined;
  readonly signal: AbortSignal;
}

/** Bytes of an answer that are searched. */
const MAX_BODY = 1024 * 1024;

/** Resolves when the answer is as expected; rejects with what is wrong with it. */
export async function probeHttp(probe: HttpProbe): Promise<void> {
  const { url, method, expectStatus, expectInBody } = probe;
  const { status, body } = await exchange(probe);
  const fail = (what: string) => {
    throw new GinnelError("ERR_UPSTREAM_UNHEALTHY", `${method} ${url.pathname} ${what}`);
  };
  if (status !== expectStatus) fail(`was answered ${status}, not ${expectStatus}`);
  if (expectInBody !== undefined && !body.includes(expectInBody)) {
    fail("was answered without the expected text");
  }
}

function exchange(probe: HttpProbe): Promise<{ readonly status: number; readonly body: string }> {
  const { url, address, method, body, expectInBody, signal } = probe;
  const isTls = url.protocol === "https:";
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: string }>();
  const sent = (isTls ? requestHttps : requestHttp)({
    host: address,
    port: portOf(url),
    path: `${url.pathname}${url.search}`,
    method,
    // A connection of its own for each: that connecting works is part of the question.
    agent: false,
    headers: {
      host: url.host,
      "user-agent": "ginnel-health",
      connection: "close",
      ...(body === undefined ? {} : { "content-length": utf8(body).length }),
    },
    // The name in the certificate; an address is none.
    ...(isTls && parseIp(hostOf(url)) === undefined ? { servername: url.hostname } : {}),
  }, (answer) => {
    const chunks: Uint8Array[] = [];
    let length = 0;
    const finish = () => {
      resolve({ status: answer.statusCode ?? 0, body: new TextDecoder().decode(concat(chunks)) });
      sent.destroy();
    };
    // Only the status counts: what follows may be long.
    if (expectInBody === undefined) return finish();
    answer.on("data", (chunk: Uint8Array) => {
      chunks.push(chunk.subarray(0, MAX_BODY - length));
      length = Math.min(MAX_BODY, length + chunk.length);
      if (length === MAX_BODY) finish();
    });
    answer.on("end", finish);
    answer.on("error", reject);
  });
  const end = () => {
    reject(signal.reason);
    sent.destroy();
  };
  signal.addEventListener("abort", end, { once: true });
  if (signal.aborted) end();
  sent.on("error", reject);
  sent.end(body);
  return promise.finally(() => signal.removeEventListener("abort", end));
}

/** The host of a URL, an IPv6 address without brackets. */
export function hostOf(url: URL): string {
  return url.hostname.startsWith("[") ? url.hostname.slice(1, -1) : url.hostname;
}

/** The port that a URL of HTTP means. */
export function portOf(url: URL): number {
  return url.port === "" ? (url.protocol === "https:" ? 443 : 80) : Number(url.port);
}
