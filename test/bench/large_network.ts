/**
 * A network of 10,000 identities, 1,000 services and 200 service policies: groups of people may dial groups of
 * services, groups of connectors bind them, and some policies name single identities and combine attributes.
 */

import { emptyState } from "../../src/core/network/apply.ts";
import type {
  NamedSpec,
  NetworkIdentity,
  NetworkService,
  NetworkState,
} from "../../src/core/network/state.ts";
import type { IdentitySpec, ServicePolicySpec, ServiceSpec } from "../../src/core/network/resources.ts";
import type { Store } from "../../src/control/store.ts";

/** Trust domain of the large network. */
export const LARGE_DOMAIN = "bench.example";

const IDENTITIES = 10_000;
const SERVICES = 1_000;
const POLICIES = 200;

/** Attributes: people's teams, sites and ranks, connectors' hosts, services' applications and stages. */
const TEAMS = 100, SITES = 20, RANKS = 4, HOSTS = 50, APPS = 100, STAGES = 3;

/** Every tenth identity is a connector. */
const CONNECTOR_EVERY = 10;

/** The SPIFFE ID of one identity of the large network. */
export function largeIdentity(index: number): string {
  return `spiffe://${LARGE_DOMAIN}/${kindOf(index)}/${nameOf(index)}`;
}

/** The whole state, made anew at each call: nothing derived from another can be reused. */
export function largeNetwork(): NetworkState {
  return {
    ...emptyState(LARGE_DOMAIN),
    revision: 1,
    identities: table(IDENTITIES, "identity", (index): NamedSpec<NetworkIdentity> => ({
      name: nameOf(index),
      spec: {
        type: kindOf(index),
        spiffeId: largeIdentity(index),
        roleAttributes: attributesOf(index),
        derivedAttributes: [],
        disabled: false,
        address: null,
      },
    })),
    services: table(SERVICES, "service", (index): NamedSpec<NetworkService> => ({
      name: `service-${index}`,
      spec: {
        encryptionRequired: true,
        roleAttributes: [`app-${index % APPS}`, `stage-${index % STAGES}`],
        configs: {},
      },
    })),
    servicePolicies: table(POLICIES, "policy", policyOf),
  };
}

/** Puts the large network into a store, beside what is there. */
export async function storeLargeNetwork(store: Store, trustDomain: string): Promise<void> {
  const { identities, services, servicePolicies } = largeNetwork();
  const tags = {};
  await store.transaction(async (tx) => {
    for (const { name, spec: { type, roleAttributes } } of identities.values()) {
      const spec: IdentitySpec = {
        type,
        spiffeId: `spiffe://${trustDomain}/${type}/${name}`,
        roleAttributes,
        derivedAttributes: [],
        disabled: false,
        adminRole: null,
        origin: "enrolment",
        externalId: null,
        address: null,
        tags,
      };
      await tx.create("identity", { name, spec });
    }
    for (const { name, spec: { roleAttributes } } of services.values()) {
      const spec: ServiceSpec = { configs: [], encryptionRequired: true, roleAttributes, tags };
      await tx.create("service", { name, spec });
    }
    for (const { name, spec } of servicePolicies.values()) await tx.create("service-policy", { name, spec });
  });
}

function policyOf(index: number): NamedSpec<ServicePolicySpec> {
  const name = `policy-${index}`;
  const n = index >> 1;
  if (index % 2 === 1) {
    const roles = { identityRoles: [`#hosts-${n % HOSTS}`], serviceRoles: [`#app-${n % APPS}`] };
    return { name, spec: { type: "Bind", semantic: "AnyOf", tags: {}, ...roles } };
  }
  // Of the Dial policies one in five wants several attributes at once, and one in ten names somebody besides.
  const isStrict = n % 5 === 0;
  return {
    name,
    spec: {
      type: "Dial",
      semantic: isStrict ? "AllOf" : "AnyOf",
      identityRoles: [
        `#team-${n % TEAMS}`,
        ...(isStrict ? [`#rank-${n % RANKS}`] : []),
        ...(n % 10 === 0 ? [`@agent-${n + 1}`] : []),
      ],
      serviceRoles: [`#app-${n % APPS}`, ...(isStrict ? [`#stage-${n % STAGES}`] : [])],
      tags: {},
    },
  };
}

/** Numbers that do not go in step with each other, so that every combination occurs. */
function attributesOf(index: number): string[] {
  const tens = Math.floor(index / CONNECTOR_EVERY);
  if (kindOf(index) === "connector") return [`hosts-${tens % HOSTS}`, `site-${tens % SITES}`];
  const among = index - tens - 1;
  return [`team-${among % TEAMS}`, `site-${among % SITES}`, `rank-${Math.floor(among / TEAMS) % RANKS}`];
}

function kindOf(index: number): "connector" | "agent" {
  return index % CONNECTOR_EVERY === 0 ? "connector" : "agent";
}

function nameOf(index: number): string {
  return `${kindOf(index)}-${index}`;
}

function table<V>(size: number, kind: string, make: (index: number) => V): Map<string, V> {
  return new Map(Array.from({ length: size }, (_, index) => [`${kind}-${index}`, make(index)]));
}
