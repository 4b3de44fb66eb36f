/**
 * Signed views: the rights of one identity as the network's authority states them. Agents and connectors enforce
 * them beside the relay, so a relay can withhold a view but neither alter one nor make one up.
 */

import { importJWK, type JWK } from "jose";
import { z } from "zod";
import type { Authority } from "./authority.ts";
import { IdentityError, type ViewErrorCode } from "./errors.ts";
import {
  asRefusal,
  CLOCK_TOLERANCE_SECONDS,
  JwsError,
  type JwsFaults,
  readJwsHeader,
  signJws,
  verifyJws,
} from "./jws.ts";
import type { SpiffeId } from "./spiffe_id.ts";

const Service = z.string().min(1).max(253);
const EndToEndSetting = z.enum(["required", "optional"]);
const Identities = z.array(z.string().startsWith("spiffe://").max(2048)).readonly();

/** Data of a service's config; its reader judges the shape, and takes a newer one for none. */
const Data = z.record(z.string().max(64), z.unknown()).readonly();
const IdleTimeout = z.int().min(1).max(86_400);

const ViewDialSchema = z.object({
  service: Service,
  endToEnd: EndToEndSetting,
  bind: Identities,
  /** The last 16 bits of its virtual addresses. */
  index: z.int().min(1).max(0xffff).exactOptional(),
  /** `intercept.v1`. */
  intercept: Data.exactOptional(),
  /** Seconds. */
  idleTimeout: IdleTimeout.exactOptional(),
});
const ViewBindSchema = z.object({
  service: Service,
  endToEnd: EndToEndSetting,
  dial: Identities,
  /** `host.v1`. */
  host: Data.exactOptional(),
  /** Seconds. */
  idleTimeout: IdleTimeout.exactOptional(),
});

/** How services appear on machines: the zone of their names, and the pools of their addresses. */
const ServicesSchema = z.object({
  zone: z.string().regex(
    /^(?=.{1,200}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$/,
  ),
  ipv4: z.string().max(18),
  ipv6: z.string().max(43),
}).readonly();

const HEAD = {
  rev: z.int().nonnegative(),
  sub: z.string(),
  iat: z.int(),
  exp: z.int(),
  services: ServicesSchema.exactOptional(),
};
const ViewSchema = z.object({
  ...HEAD,
  dial: z.array(ViewDialSchema).readonly(),
  bind: z.array(ViewBindSchema).readonly(),
});

const Index = z.int().nonnegative();

/** The form of large views: services name their peers by the index of a list, since many have the same. */
const PackedViewSchema = z.object({
  ...HEAD,
  /** SPIFFE IDs; those of the subject's trust domain as their path only. */
  peers: z.array(z.array(z.string().regex(/^(?:\/|spiffe:\/\/)/).max(2048))),
  dial: z.array(ViewDialSchema.extend({ bind: Index })),
  bind: z.array(ViewBindSchema.extend({ dial: Index })),
});

/** What one identity (`sub`) may do as of one revision; `iat` and `exp` are seconds since the epoch. */
export type View = Readonly<z.output<typeof ViewSchema>>;

/** How to judge a view. */
export interface VerifyViewOptions {
  /** Public keys that may sign views. */
  readonly authorities: readonly JWK[];
  readonly subject: SpiffeId;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** Views of an older revision are refused. */
  readonly minRevision?: number;
}

/** The `typ` of a view: no other token of the network can pass for one. */
export const VIEW_TYPE = "ginnel-view+jwt";

/** Largest signed view, in bytes: room for some 5,000 services with their configs, and a bound on what a relay can make a node hold. */
export const MAX_VIEW_LENGTH = 3 << 20;

const ViewHeader = z.object({ typ: z.literal(VIEW_TYPE), kid: z.string() });

/** Signs a view with the authority's key. */
export async function signView(
  options: { readonly authority: Authority; readonly view: View },
): Promise<string> {
  const { authority, view } = options;
  return await signJws(pack(view), {
    key: authority.privateKey,
    header: { typ: VIEW_TYPE, kid: authority.kid },
  });
}

/** Verifies a signed view; throws an `IdentityError` with an `ERR_VIEW_*` code. */
export async function verifyView(jws: string, options: VerifyViewOptions): Promise<View> {
  const { authorities, subject, now, minRevision = 0 } = options;
  if (jws.length > MAX_VIEW_LENGTH) {
    throw refuse("ERR_VIEW_TOO_LARGE", `it has ${jws.length} characters, more than ${MAX_VIEW_LENGTH}`);
  }
  const view = await readView(jws, authorities);
  if (view.sub !== subject.uri) throw refuse("ERR_VIEW_SUBJECT", "it is for another identity");
  const seconds = now / 1000;
  if (view.iat > seconds + CLOCK_TOLERANCE_SECONDS) {
    throw refuse("ERR_VIEW_NOT_YET_VALID", "it was made in the future", "Check the clocks of both machines");
  }
  if (view.exp + CLOCK_TOLERANCE_SECONDS <= seconds) {
    throw refuse("ERR_VIEW_EXPIRED", `it expired on ${new Date(view.exp * 1000).toISOString()}`);
  }
  if (view.rev < minRevision) {
    throw refuse("ERR_VIEW_OUTDATED", `its revision ${view.rev} is older than ${minRevision}`);
  }
  return view;
}

async function readView(jws: string, authorities: readonly JWK[]): Promise<View> {
  try {
    const header = ViewHeader.safeParse(readJwsHeader(jws));
    if (!header.success) throw new JwsError("malformed", { cause: header.error });
    const jwk = authorities.find((authority) => authority.kid === header.data.kid);
    if (jwk === undefined) {
      throw refuse("ERR_VIEW_AUTHORITY", "no trusted authority has the key that it names");
    }
    const view = unpack(await verifyJws(jws, await importJWK(jwk, "ES256") as CryptoKey));
    if (view === undefined || hasDuplicates(view)) throw new JwsError("malformed");
    return view;
  } catch (error) {
    throw asRefusal(error, FAULTS, refuse);
  }
}

/** Peers of all services together from which on a view is packed: 10,000 callers of 20 services would not fit. */
const MANY_PEERS = 256;

function pack(view: View): object {
  const { dial, bind } = view;
  const count = (lists: readonly (readonly string[])[]) => lists.reduce((sum, { length }) => sum + length, 0);
  if (count(dial.map((entry) => entry.bind)) + count(bind.map((entry) => entry.dial)) < MANY_PEERS) {
    return view;
  }
  const prefix = domainOf(view.sub);
  const peers: string[][] = [];
  const known = new Map<readonly string[] | string, number>();
  const indexOf = (ids: readonly string[]): number => {
    // Lists are mostly the very same object; only those that are not must be read to be compared.
    const found = known.get(ids) ?? known.get(ids.join());
    if (found !== undefined) return found;
    const index = peers.push(ids.map((id) => id.startsWith(`${prefix}/`) ? id.slice(prefix.length) : id)) - 1;
    known.set(ids, index).set(ids.join(), index);
    return index;
  };
  return {
    ...view,
    dial: dial.map((entry) => ({ ...entry, bind: indexOf(entry.bind) })),
    bind: bind.map((entry) => ({ ...entry, dial: indexOf(entry.dial) })),
    peers,
  };
}

/** Reads either form; services that have the same peers share one list. */
function unpack(payload: Readonly<Record<string, unknown>>): View | undefined {
  if (!("peers" in payload)) return ViewSchema.safeParse(payload).data;
  const { data } = PackedViewSchema.safeParse(payload);
  if (data === undefined) return undefined;
  const { peers, dial, bind, ...head } = data;
  const isWhole = [...dial.map((entry) => entry.bind), ...bind.map((entry) => entry.dial)]
    .every((index) => index < peers.length);
  if (!isWhole) return undefined;
  const prefix = domainOf(data.sub);
  const lists = peers.map((ids) => ids.map((id) => id.startsWith("/") ? prefix + id : id));
  return {
    ...head,
    dial: dial.map((entry) => ({ ...entry, bind: lists[entry.bind]! })),
    bind: bind.map((entry) => ({ ...entry, dial: lists[entry.dial]! })),
  };
}

/** The beginning that all SPIFFE IDs of a trust domain share, without the slash. */
function domainOf(id: string): string {
  return /^spiffe:\/\/[^/]*/.exec(id)?.[0] ?? "";
}

/** A service listed twice could mean two different things to two readers. */
function hasDuplicates(view: View): boolean {
  return [view.dial, view.bind].some((entries) =>
    new Set(entries.map((entry) => entry.service)).size !== entries.length
  );
}

const FAULTS: JwsFaults<ViewErrorCode> = {
  malformed: ["ERR_VIEW_MALFORMED", "it is not a view"],
  algorithm: ["ERR_VIEW_ALGORITHM", "its algorithm is not ES256"],
  signature: ["ERR_VIEW_SIGNATURE", "the authority's key did not sign it"],
};

function refuse(code: ViewErrorCode, reason: string, hint?: string): IdentityError {
  return new IdentityError(code, `Cannot accept the view: ${reason}`, hint === undefined ? {} : { hint });
}
