/**
 * SPIFFE IDs as Ginnel uses them: `spiffe://<trust-domain>/<kind>/<name>` in the network's own trust domain, any path
 * in a foreign one. Parsing is strict and accepts one spelling only, so that IDs can be compared as text.
 */

import { IdentityError } from "./errors.ts";

/** The kinds of identity a network has. */
export const IDENTITY_KINDS = ["relay", "controller", "connector", "agent", "user"] as const;

/** One of {@linkcode IDENTITY_KINDS}. */
export type IdentityKind = typeof IDENTITY_KINDS[number];

/** A parsed SPIFFE ID; `uri` is its only spelling. */
export interface SpiffeId {
  readonly trustDomain: string;
  /** `workload`: an identity of a foreign trust domain, whatever its path says it is. */
  readonly kind: IdentityKind | "workload";
  /** A workload's is its path without the first slash. */
  readonly name: string;
  readonly uri: string;
}

/** The DNS suffix of server names: no public CA may issue it, so only the network's own CA can vouch for one. */
export const SERVER_NAME_SUFFIX = ".ginnel.internal";

/** Kinds that are servers: their names are DNS labels and their certificates carry a DNS name too. */
const SERVER_KINDS: readonly SpiffeId["kind"][] = ["relay", "controller"];

/** Longest trust domain, in characters: it shares its alphabet and length with DNS names. */
const MAX_TRUST_DOMAIN_LENGTH = 255;

/** Longest name, in characters: as long as a DNS label may be, so that every name can become one. */
const MAX_NAME_LENGTH = 63;

/** Longest SPIFFE ID of a foreign trust domain, in characters: what the SPIFFE standard asks everybody to support. */
const MAX_URI_LENGTH = 2048;

const TRUST_DOMAIN = /^[a-z0-9._-]+$/;
const NAME = /^[A-Za-z0-9._-]+$/;
const DNS_LABEL = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/;
const SCHEME = "spiffe://";

/** Reads a SPIFFE ID; throws `ERR_SPIFFE_ID_INVALID` unless the whole text is one of ours. */
export function parseSpiffeId(text: string): SpiffeId {
  if (!text.startsWith(SCHEME)) throw invalid(`it does not start with ${SCHEME}`);
  const parts = text.slice(SCHEME.length).split("/");
  const [trustDomain, kind, name] = parts;
  if (parts.length !== 3 || trustDomain === undefined || kind === undefined || name === undefined) {
    throw invalid("it is not spiffe://<trust-domain>/<kind>/<name>");
  }
  return makeSpiffeId({ trustDomain, kind, name });
}

/** Reads a SPIFFE ID of a foreign trust domain, where any path will do: it stands for a workload. */
export function parseWorkloadId(text: string): SpiffeId {
  if (!text.startsWith(SCHEME)) throw invalid(`it does not start with ${SCHEME}`);
  if (text.length > MAX_URI_LENGTH) throw invalid(`it is longer than ${MAX_URI_LENGTH} characters`);
  const [trustDomain = "", ...segments] = text.slice(SCHEME.length).split("/");
  assertTrustDomain(trustDomain);
  if (segments.length === 0) throw invalid("it has no path: it is a whole trust domain, not somebody in it");
  if (!segments.every(isSegment)) {
    throw invalid("a segment of its path is not made of letters, digits, dots, dashes and underscores");
  }
  return { trustDomain, kind: "workload", name: segments.join("/"), uri: text };
}

/** The trust domain that a SPIFFE ID states, or undefined where it is none: nothing else of it is looked at. */
export function trustDomainOf(text: string): string | undefined {
  if (!text.startsWith(SCHEME)) return undefined;
  const [trustDomain = ""] = text.slice(SCHEME.length).split("/", 1);
  return isTrustDomain(trustDomain) ? trustDomain : undefined;
}

/** Builds a SPIFFE ID from its parts, each checked. */
export function makeSpiffeId(
  parts: { readonly trustDomain: string; readonly kind: string; readonly name: string },
): SpiffeId {
  const { trustDomain, kind, name } = parts;
  assertTrustDomain(trustDomain);
  if (!isIdentityKind(kind)) throw invalid(`its kind is none of ${IDENTITY_KINDS.join(", ")}`);
  if (name.length > MAX_NAME_LENGTH) throw invalid(`its name is longer than ${MAX_NAME_LENGTH} characters`);
  if (!isSegment(name)) {
    throw invalid("its name may contain only letters, digits, dots, dashes and underscores");
  }
  if (isServerKind(kind) && !DNS_LABEL.test(name)) {
    throw invalid(`a ${kind}'s name must be a DNS label: lower-case letters, digits and inner dashes`);
  }
  return { trustDomain, kind, name, uri: `${SCHEME}${trustDomain}/${kind}/${name}` };
}

/** Reads the trust domain out of a bare `spiffe://<trust-domain>` URI, as CA certificates carry it. */
export function parseTrustDomainUri(text: string): string {
  if (!text.startsWith(SCHEME)) throw invalid(`it does not start with ${SCHEME}`);
  const trustDomain = text.slice(SCHEME.length);
  assertTrustDomain(trustDomain);
  return trustDomain;
}

/** Writes the bare URI of a trust domain. */
export function trustDomainUri(trustDomain: string): string {
  assertTrustDomain(trustDomain);
  return SCHEME + trustDomain;
}

/** The TLS server name of a relay: what its certificate carries as DNS name and what nodes ask for. */
export function relayServerName(name: string): string {
  return serverName("relay", name);
}

/** The TLS server name of a relay or controller. */
export function serverName(kind: "relay" | "controller", name: string): string {
  return `${name}.${kind}${SERVER_NAME_SUFFIX}`;
}

/** Tells whether identities of this kind are servers. */
export function isServerKind(kind: SpiffeId["kind"]): kind is "relay" | "controller" {
  return SERVER_KINDS.includes(kind);
}

/** Tells whether a word is a kind of identity. */
export function isIdentityKind(text: string): text is IdentityKind {
  return (IDENTITY_KINDS as readonly string[]).includes(text);
}

function isSegment(text: string): boolean {
  return NAME.test(text) && text !== "." && text !== "..";
}

function isTrustDomain(text: string): boolean {
  return text.length <= MAX_TRUST_DOMAIN_LENGTH && TRUST_DOMAIN.test(text);
}

function assertTrustDomain(text: string): void {
  if (!isTrustDomain(text)) {
    throw invalid(
      `its trust domain must be 1 to ${MAX_TRUST_DOMAIN_LENGTH} lower-case letters, digits, dots, dashes and underscores`,
    );
  }
}

function invalid(reason: string): IdentityError {
  return new IdentityError("ERR_SPIFFE_ID_INVALID", `Cannot use the SPIFFE ID: ${reason}`);
}
