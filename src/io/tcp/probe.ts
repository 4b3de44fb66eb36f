/**
 * Health checks of an upstream: it accepts a connection, or answers an HTTP request well.
 */

import type { Upstream } from "../../base/address.ts";
import { utf8 } from "../../base/bytes.ts";
import { withSignal } from "../../base/async.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { GinnelError } from "../../base/errors.ts";
import { dialUpstream } from "./dial.ts";

/** What to check. */
export interface Probe {
  readonly kind: "tcp" | "http";
  /** Path of the HTTP request; default "/". */
  readonly path?: string | undefined;
  /** Milliseconds for the whole check. */
  readonly timeout: number;
}

/** Bytes read at most in search of a status line. */
const MAX_STATUS_LINE = 1_024;

/** Resolves when the upstream is well; rejects with what is wrong with it. */
export async function probeUpstream(upstream: Upstream, probe: Probe): Promise<void> {
  const signal = AbortSignal.timeout(probe.timeout);
  const channel = await dialUpstream(upstream, { timeout: probe.timeout });
  try {
    if (probe.kind === "http") await withSignal(checkHttp(channel, upstream, probe.path ?? "/"), signal);
  } finally {
    // A reset would show in the logs of many services at every check.
    channel.close();
  }
}

async function checkHttp(channel: ByteChannel, upstream: Upstream, path: string): Promise<void> {
  const host = upstream.kind === "tcp" ? upstream.hostname : "localhost";
  await channel.write(
    utf8(`GET ${path} HTTP/1.1\r\nhost: ${host}\r\nuser-agent: ginnel-health\r\nconnection: close\r\n\r\n`),
  );
  let text = "";
  while (!text.includes("\r\n") && text.length < MAX_STATUS_LINE) {
    const bytes = await channel.read();
    if (bytes === null) break;
    text += String.fromCharCode(...bytes.subarray(0, MAX_STATUS_LINE));
  }
  const status = Number(/^HTTP\/1\.[01] ([0-9]{3})/.exec(text)?.[1] ?? Number.NaN);
  if (!(status >= 200 && status < 400)) {
    throw new GinnelError(
      "ERR_UPSTREAM_UNHEALTHY",
      `The upstream answered ${Number.isNaN(status) ? "no HTTP" : status} to GET ${path}`,
    );
  }
}
