/**
 * What `ginnel doctor` looks at on any machine: platform, clock, limits, socket buffers, UDP.
 */

import { errorMessage } from "../base/errors.ts";
import { probeLibc, probeLimits, probeSocketBuffers, probeUdp } from "../modes/doctor/probe_network.ts";
import type { Finding } from "./report.ts";

/** The runtime this version was tested with. */
const TESTED_DENO = "2.9.5";

/** No clock can rightly be before this program was written, nor long after (milliseconds). */
const CLOCK_EARLIEST = Date.UTC(2025, 0, 1);
const CLOCK_LATEST = Date.UTC(2070, 0, 1);

/** Descriptors below which a busy node may run out: two for each flow of a connector. */
const WANTED_DESCRIPTORS = 8_192;

/** Bytes of socket buffer below which a busy node loses datagrams in bursts. */
const WANTED_BUFFER = 4 * 1024 * 1024;

/** Looks at this machine; `now` is in milliseconds since the epoch. */
export async function inspectSystem(now: number): Promise<Finding[]> {
  return [
    inspectPlatform(Deno.build, Deno.version.deno),
    inspectClock(now),
    inspectDescriptors(probeLimits()),
    inspectLibc(),
    inspectBuffers(),
    await inspectUdp(),
  ];
}

/** Judges operating system, architecture and runtime. */
export function inspectPlatform(
  build: { readonly os: string; readonly arch: string },
  deno: string,
): Finding {
  const text = `${build.os} ${build.arch}, Deno ${deno}`;
  if (build.os !== "linux" || !["x86_64", "aarch64"].includes(build.arch)) {
    return {
      verdict: "fail",
      subject: "platform",
      text,
      hint: "Ginnel is made for Linux on x86_64 and aarch64; run it there",
    };
  }
  if (deno !== TESTED_DENO) {
    const hint = `Tested with Deno ${TESTED_DENO}: npx -y deno@${TESTED_DENO}`;
    return { verdict: "warn", subject: "platform", text, hint };
  }
  return { verdict: "ok", subject: "platform", text };
}

/** Judges the clock: proofs live for a minute, so a wrong clock locks a node out. */
export function inspectClock(now: number): Finding {
  const text = new Date(now).toISOString();
  if (now < CLOCK_EARLIEST || now > CLOCK_LATEST) {
    return { verdict: "fail", subject: "clock", text, hint: "Set the clock: timedatectl set-ntp true" };
  }
  return { verdict: "ok", subject: "clock", text };
}

/** Judges the limit on open files, from the text of `/proc/self/limits`. */
export function inspectDescriptors(limits: string | undefined): Finding {
  const value = /^Max open files\s+(\S+)/m.exec(limits ?? "")?.[1];
  const subject = "open files";
  if (value === undefined) {
    return { verdict: "warn", subject, text: "limit unknown", hint: "Check it with: ulimit -n" };
  }
  if (value !== "unlimited" && Number(value) < WANTED_DESCRIPTORS) {
    const hint =
      `Raise it: ulimit -n ${WANTED_DESCRIPTORS}, or LimitNOFILE=${WANTED_DESCRIPTORS} in the systemd unit`;
    return { verdict: "warn", subject, text: `at most ${value}, enough for a small node`, hint };
  }
  return { verdict: "ok", subject, text: `at most ${value}` };
}

function inspectLibc(): Finding {
  const subject = "libc calls";
  if (probeLibc()) return { verdict: "ok", subject, text: "possible" };
  return {
    verdict: "warn",
    subject,
    text: "not possible: socket buffers stay small, and resets reach local sockets as plain ends",
    hint: "Start with --allow-ffi, on a system with glibc or musl",
  };
}

function inspectBuffers(): Finding {
  const buffers = probeSocketBuffers();
  const hint =
    "Run: sysctl -w net.core.rmem_max=8388608 net.core.wmem_max=8388608, and put both in /etc/sysctl.d";
  const subject = "UDP buffers";
  if (buffers === undefined) return { verdict: "warn", subject, text: "could not be raised", hint };
  const text = `receive ${kib(buffers.receive)}, send ${kib(buffers.send)}`;
  if (Math.min(buffers.receive, buffers.send) < WANTED_BUFFER) {
    return { verdict: "warn", subject, text, hint };
  }
  return { verdict: "ok", subject, text };
}

async function inspectUdp(): Promise<Finding> {
  try {
    await probeUdp();
    return { verdict: "ok", subject: "UDP", text: "works on this machine" };
  } catch (error) {
    const hint = "Let UDP through on the loopback interface; look at the firewall rules";
    return { verdict: "fail", subject: "UDP", text: errorMessage(error), hint };
  }
}

function kib(bytes: number): string {
  return `${Math.round(bytes / 1024)} KiB`;
}
