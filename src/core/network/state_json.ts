/** Network states and changes as JSON: how they travel to relays and rest on their disks. */

import { z } from "zod";
import type { NetworkChange } from "./changes.ts";
import type { NetworkState } from "./state.ts";

const Id = z.string().min(1).max(128);
const Name = z.string().min(1).max(2048);
const Attributes = z.array(z.string().max(256)).max(1_000).readonly();
const Roles = z.array(z.string().max(2_100)).max(10_000).readonly();
const Data = z.record(z.string(), z.unknown()).readonly();
const Roots = z.array(z.string().max(65_536)).max(64).readonly();
const Pools = z.object({ ipv4: z.string().max(64).nullable(), ipv6: z.string().max(64).nullable() })
  .readonly();
const Serials = z.array(z.string().max(64)).max(1_000_000).readonly();
const Revision = z.int().nonnegative();

const Identity = z.object({
  type: z.enum(["relay", "connector", "agent", "user", "controller", "workload"]),
  spiffeId: z.string().startsWith("spiffe://").max(2048),
  roleAttributes: Attributes,
  derivedAttributes: Attributes,
  disabled: z.boolean(),
  address: z.string().max(512).nullable(),
});
const Service = z.object({
  encryptionRequired: z.boolean(),
  roleAttributes: Attributes,
  idleTimeout: z.int().min(1).max(86_400).exactOptional(),
  index: z.int().min(1).max(0xffff).exactOptional(),
  configs: z.record(z.string(), Data).readonly(),
});
const ServicePolicy = z.object({
  type: z.enum(["Dial", "Bind"]),
  semantic: z.enum(["AnyOf", "AllOf"]),
  identityRoles: Roles,
  serviceRoles: Roles,
  tags: Data,
});
const TrustDomain = z.object({
  roots: Roots,
  rules: z.array(z.object({ path: z.string().max(2048), roleAttributes: Attributes })).max(10_000).readonly(),
  disabled: z.boolean(),
});

function named<S extends z.ZodType>(spec: S) {
  return z.object({ name: Name, spec });
}

function entry<K extends string, S extends z.ZodType>(kind: K, spec: S) {
  return z.object({ kind: z.literal(kind), id: Id, value: named(spec).nullable() });
}

const Change = z.discriminatedUnion("kind", [
  entry("identity", Identity),
  entry("service", Service),
  entry("service-policy", ServicePolicy),
  entry("trust-domain", TrustDomain),
  z.object({ kind: z.literal("egress"), document: Data.nullable() }),
  z.object({ kind: z.literal("revoked"), serials: Serials }),
  z.object({ kind: z.literal("roots"), roots: Roots }),
  z.object({ kind: z.literal("pools"), pools: Pools }),
]);

function entries<S extends z.ZodType>(spec: S) {
  return z.array(z.tuple([Id, named(spec)])).readonly();
}

const State = z.object({
  trustDomain: z.string().min(1).max(255),
  revision: Revision,
  identities: entries(Identity),
  services: entries(Service),
  servicePolicies: entries(ServicePolicy),
  trustDomains: entries(TrustDomain),
  egress: Data.nullable(),
  revoked: Serials,
  roots: Roots,
  pools: Pools,
});

/** A state as plain JSON. */
export type StateJson = z.input<typeof State>;

/** A state as plain JSON: maps as lists of pairs. */
export function stateToJson(state: NetworkState): StateJson {
  return {
    ...state,
    identities: [...state.identities],
    services: [...state.services],
    servicePolicies: [...state.servicePolicies],
    trustDomains: [...state.trustDomains],
    revoked: [...state.revoked],
  } as StateJson;
}

/** What {@linkcode stateToJson} gives as text, in parts of some entries each: a large network's is the work of a while. */
export function* stateTextParts(state: NetworkState): Generator<string, void, void> {
  const { identities, services, servicePolicies, trustDomains, revoked, ...rest } = state;
  yield JSON.stringify({ ...rest, revoked: [...revoked] }).slice(0, -1);
  for (const [name, map] of Object.entries({ identities, services, servicePolicies, trustDomains })) {
    yield `,${JSON.stringify(name)}:[`;
    yield* entryTexts(map);
    yield "]";
  }
  yield "}";
}

/** Entries per part. */
const PART = 500;

/** Each entry's text: states share the entries that do not change. */
const TEXTS = new WeakMap<object, string>();

function* entryTexts(map: ReadonlyMap<string, object>): Generator<string, void, void> {
  let part: string[] = [];
  let isFirst = true;
  const take = () => {
    const text = (isFirst ? "" : ",") + part.join();
    part = [];
    isFirst = false;
    return text;
  };
  for (const [id, value] of map) {
    const text = TEXTS.get(value) ?? JSON.stringify(value);
    TEXTS.set(value, text);
    part.push(`[${JSON.stringify(id)},${text}]`);
    if (part.length >= PART) yield take();
  }
  if (part.length > 0) yield take();
}

/** Reads a state; throws a `ZodError` when it is none. */
export function stateFromJson(json: unknown): NetworkState {
  const state = State.parse(json);
  return {
    ...state,
    identities: new Map(state.identities),
    services: new Map(state.services),
    servicePolicies: new Map(state.servicePolicies),
    trustDomains: new Map(state.trustDomains),
    revoked: new Set(state.revoked),
  };
}

/** Reads a list of changes; throws a `ZodError` when it is none. */
export function changesFromJson(json: unknown): readonly NetworkChange[] {
  return z.array(Change).parse(json);
}
