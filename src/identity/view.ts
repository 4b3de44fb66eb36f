/**
 * Signed views: the rights of one identity as the network's authority states them. Agents and connectors enforce
 * them beside the relay, so a relay can withhold a view but neither alter one nor make one up.
 */

import { importJWK, type JWK } from "jose";
import { z } from "zod";
import type { Authority } from "./authority.ts";
import { IdentityError, type ViewErrorCode } from "./errors.ts";
import {
  CLOCK_TOLERANCE_SECONDS,
  JwsError,
  type JwsFault,
  readJwsHeader,
  signJws,
  verifyJws,
} from "./jws.ts";
import type { SpiffeId } from "./spiffe_id.ts";

const Service = z.string().min(1).max(253);
const EndToEndSetting = z.enum(["required", "optional"]);
const Identities = z.array(z.string().startsWith("spiffe://").max(2048)).readonly();

const ViewDialSchema = z.object({ service: Service, endToEnd: EndToEndSetting, bind: Identities });
const ViewBindSchema = z.object({ service: Service, endToEnd: EndToEndSetting, dial: Identities });

const ViewSchema = z.object({
  rev: z.int().nonnegative(),
  sub: z.string(),
  iat: z.int(),
  exp: z.int(),
  dial: z.array(ViewDialSchema).readonly(),
  bind: z.array(ViewBindSchema).readonly(),
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

/** Largest signed view, in bytes: room for some 5,000 services, and a bound on what a relay can make a node hold. */
export const MAX_VIEW_LENGTH = 1 << 20;

const ViewHeader = z.object({ typ: z.literal(VIEW_TYPE), kid: z.string() });

/** Signs a view with the authority's key. */
export async function signView(
  options: { readonly authority: Authority; readonly view: View },
): Promise<string> {
  const { authority, view } = options;
  return await signJws(view, { key: authority.privateKey, header: { typ: VIEW_TYPE, kid: authority.kid } });
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
    const view = ViewSchema.safeParse(await verifyJws(jws, await importJWK(jwk, "ES256") as CryptoKey));
    if (!view.success || hasDuplicates(view.data)) throw new JwsError("malformed");
    return view.data;
  } catch (error) {
    throw fromJws(error);
  }
}

/** A service listed twice could mean two different things to two readers. */
function hasDuplicates(view: View): boolean {
  return [view.dial, view.bind].some((entries) =>
    new Set(entries.map((entry) => entry.service)).size !== entries.length
  );
}

const FAULTS: Readonly<Record<JwsFault, readonly [ViewErrorCode, string]>> = {
  malformed: ["ERR_VIEW_MALFORMED", "it is not a view"],
  algorithm: ["ERR_VIEW_ALGORITHM", "its algorithm is not ES256"],
  signature: ["ERR_VIEW_SIGNATURE", "the authority's key did not sign it"],
};

function fromJws(error: unknown): unknown {
  if (!(error instanceof JwsError)) return error;
  const [code, reason] = FAULTS[error.fault];
  return refuse(code, reason);
}

function refuse(code: ViewErrorCode, reason: string, hint?: string): IdentityError {
  return new IdentityError(code, `Cannot accept the view: ${reason}`, hint === undefined ? {} : { hint });
}
