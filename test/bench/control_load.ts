/**
 * Many devices that enrol at a real controller, each from a loopback address of its own: the controller limits what one
 * address may ask, and devices do not share theirs.
 */

import assert from "node:assert/strict";
import { request } from "node:https";
import { fetchPinnedCa } from "../../src/io/controller/first_contact.ts";
import { makeCsr } from "../../src/identity/csr.ts";
import { readEnrolmentToken } from "../../src/identity/enrolment_token.ts";
import { generateKeyPair } from "../../src/identity/key_pair.ts";
import { serverName } from "../../src/identity/spiffe_id.ts";
import type { ControllerGround } from "../support/controller_ground.ts";

/** What a load of enrolments took. */
export interface EnrolmentTimes {
  /** Seconds until all were invited: identity and one-time token, through the API. */
  readonly inviting: number;
  /** Seconds until all had their certificate. */
  readonly enrolling: number;
  /** Milliseconds of each device: first contact, key, signing request, certificate. */
  readonly each: readonly number[];
}

/** Devices under way at once. */
const AT_ONCE = 8;

/** Administrators who invite, each with a token: one may make 50 requests a second. */
const INVITERS = 40;

/** Invites and enrols `count` devices whose names begin with `prefix`. */
export async function enrolMany(
  ground: ControllerGround,
  { count, prefix }: { readonly count: number; readonly prefix: string },
): Promise<EnrolmentTimes> {
  const inviters = await makeInviters(ground, prefix);
  const invited = performance.now();
  const tokens: string[] = [];
  await inParallel(count, async (index) => {
    const inviter = inviters[index % INVITERS]!;
    tokens.push(
      await invite(ground, { name: `${prefix}-${index}`, from: addressOf(index % INVITERS), token: inviter }),
    );
  });
  const started = performance.now();
  const each: number[] = [];
  await inParallel(count, async (index) => {
    const begin = performance.now();
    await enrol(tokens[index]!, addressOf(INVITERS + index));
    each.push(performance.now() - begin);
  });
  return { inviting: (started - invited) / 1e3, enrolling: (performance.now() - started) / 1e3, each };
}

async function makeInviters(ground: ControllerGround, prefix: string): Promise<string[]> {
  const tokens = [];
  for (let i = 0; i < INVITERS; i++) {
    const made = await ground.make("/api-tokens", { name: `${prefix}-inviter-${i}`, role: "admin" });
    tokens.push(String(made.token));
  }
  return tokens;
}

async function invite(
  ground: ControllerGround,
  { name, from, token }: { readonly name: string; readonly from: string; readonly token: string },
): Promise<string> {
  const [controller] = ground.controllers;
  const roots = await ground.roots();
  const ask = (path: string, json: unknown) =>
    post({ place: controller!, roots, from, path: `/api/v1${path}`, json, token });
  const identity = await ask("/identities", { name, type: "agent" });
  const enrolment = await ask(`/identities/${identity.id}/enrolments`, {});
  return String(enrolment.token);
}

/** What `ginnel enroll` does, but for the file. */
async function enrol(token: string, from: string): Promise<void> {
  const { claims: { ctl: controllers, ca, sub } } = readEnrolmentToken(token, { now: Date.now() });
  const root = await fetchPinnedCa({ controllers, fingerprints: [ca] });
  const csr = await makeCsr(await generateKeyPair(), sub);
  const place = controllers[0]!;
  const answer = await post({
    place,
    roots: [root],
    from,
    path: "/enrolment/v1/enrol",
    json: { token, csr },
  });
  assert.match(String(answer.certificate), /BEGIN CERTIFICATE/);
}

/** Runs a task for each index below `count`, {@linkcode AT_ONCE} at a time. */
async function inParallel(count: number, task: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    while (next < count) await task(next++);
  }));
}

function addressOf(index: number): string {
  return `127.1.${index >> 8}.${index & 255}`;
}

/** One request on a connection of its own; rejects unless the answer is 200 or 201. */
function post(
  { place, roots, from, path, json, token }: {
    readonly place: { readonly name: string; readonly url: string };
    readonly roots: readonly string[];
    readonly from: string;
    readonly path: string;
    readonly json: unknown;
    readonly token?: string;
  },
): Promise<Record<string, unknown>> {
  const body = JSON.stringify(json);
  return new Promise((resolve, reject) => {
    const sent = request(new URL(path, place.url), {
      method: "POST",
      agent: false,
      localAddress: from,
      ca: [...roots],
      servername: serverName("controller", place.name),
      headers: {
        "content-type": "application/json",
        "content-length": String(new TextEncoder().encode(body).length),
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      },
    }, (answer) => {
      let text = "";
      answer.setEncoding("utf8");
      answer.on("data", (part: string) => text += part);
      answer.on("error", reject);
      answer.on("end", () => {
        if (answer.statusCode === 200 || answer.statusCode === 201) resolve(JSON.parse(text));
        else reject(new Error(`POST ${path} answered ${answer.statusCode}: ${text}`));
      });
    });
    sent.on("error", reject);
    sent.end(body);
  });
}
