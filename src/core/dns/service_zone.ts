/**
 * What an agent's resolver answers: the names and addresses of the services that it may dial. Whatever is a service's
 * is answered here or fails here; everything else is nobody's of ours.
 */

import { type IpAddress, ipBits, type IpPrefix, prefixContains } from "../../base/ip.ts";
import type { CataloguedService, ServiceCatalogue } from "../service/catalogue.ts";
import { NAME_INDEXES, virtualAddress, virtualIndex } from "../service/virtual_address.ts";
import { readReverseName, reverseDomains } from "./reverse_name.ts";

/** What is asked of a name; `other` has no answer here but that there is none. */
export type ZoneType = "A" | "AAAA" | "SRV" | "PTR" | "SOA" | "ANY" | "other";

/** A question, its name in lower case without the final dot. */
export interface ZoneQuestion {
  readonly name: string;
  readonly type: ZoneType;
}

/** One record of an answer. */
export type ZoneRecord =
  | { readonly type: "address"; readonly address: IpAddress }
  | { readonly type: "srv"; readonly port: number; readonly target: string }
  | { readonly type: "ptr"; readonly host: string }
  | { readonly type: "soa" };

/** What becomes of a question. */
export type ZoneVerdict =
  | { readonly outcome: "forward" }
  /** Ours, but who may be reached is not known now. */
  | { readonly outcome: "unavailable" }
  | { readonly outcome: "found"; readonly records: readonly ZoneRecord[]; readonly apex: string }
  /** There is no such name, or nothing of that type: the SOA of `apex`, an end of the name, says so. */
  | { readonly outcome: "no-name" | "no-data"; readonly apex: string };

/** Numbers for names that are no service's own. */
export interface NameNumbers {
  /** The number of a name, given to it now where it has none; `undefined` when all are in use. */
  indexOf(host: string, now: number): number | undefined;
  /** Whose number that is. */
  hostOf(index: number): string | undefined;
}

/** What a zone is made of. */
export interface ServiceZoneOptions {
  readonly names: NameNumbers;
  /** The zone for as long as no list of services has come. */
  readonly zone: string;
}

/** What there is to be found at present. */
export interface ZoneState {
  /** The last list there was. */
  readonly catalogue: ServiceCatalogue;
  /** Whether it still holds. */
  readonly valid: boolean;
  /** Domains that this machine tries behind names, in lower case. */
  readonly search?: readonly string[];
}

/** Ports that one SRV answer tells. */
const MAX_PORTS = 128;

const FORWARD: ZoneVerdict = { outcome: "forward" };
const UNAVAILABLE: ZoneVerdict = { outcome: "unavailable" };

/** All that an agent answers for. */
export class ServiceZone {
  readonly #names: NameNumbers;
  readonly #fallback: string;
  #state: ZoneState | undefined;
  /** Names in the zone that are none themselves, but have some below them. */
  #parents: ReadonlySet<string> = new Set();
  /** Where the pools' reverse names lie. */
  #reverseZones: readonly string[] = [];

  constructor({ names, zone }: ServiceZoneOptions) {
    this.#names = names;
    this.#fallback = zone;
  }

  /** Answers by another list from now on. */
  update(state: ZoneState): void {
    const { catalogue } = state;
    if (catalogue !== this.#state?.catalogue) {
      const { ipv4, ipv6 } = catalogue.network;
      this.#parents = parentsOf(catalogue);
      this.#reverseZones = [ipv4, ipv6].flatMap(reverseDomains);
    }
    this.#state = state;
  }

  /** The DNS zone. */
  get zone(): string {
    return this.#state?.catalogue.network.zone ?? this.#fallback;
  }

  /** The domains that must be asked here: zone, intercepted names, reverse names. */
  domains(): readonly string[] {
    const catalogue = this.#state?.catalogue;
    if (catalogue === undefined) return [this.#fallback];
    const { ipv4, ipv6 } = catalogue.network;
    const reverse = [ipv4, ipv6, ...catalogue.prefixes()].flatMap(reverseDomains);
    return [...catalogue.zones(), ...new Set(reverse)];
  }

  /** Whether a name lies in the zone: nobody else has a say about it. */
  holds(name: string): boolean {
    return isWithinDomain(name, this.zone);
  }

  /** Whether an address is a virtual one. */
  holdsAddress(address: IpAddress): boolean {
    const network = this.#state?.catalogue.network;
    return network !== undefined &&
      [network.ipv4, network.ipv6].some((pool) => prefixContains(pool, address));
  }

  /** Judges one question; `now` in milliseconds. */
  answer(question: ZoneQuestion, now: number): ZoneVerdict {
    const { name } = question;
    const { zone } = this;
    const catalogue = this.#state?.catalogue;
    if (isWithinDomain(name, zone)) {
      if (catalogue === undefined || !this.#state!.valid) return UNAVAILABLE;
      return this.#inZone(question, { catalogue, now });
    }
    if (this.#isSearched(name)) {
      return this.#state?.valid ? { outcome: "no-name", apex: name } : UNAVAILABLE;
    }
    if (catalogue === undefined) return FORWARD;
    const prefix = readReverseName(name);
    if (prefix !== undefined) return this.#reverse(question, { catalogue, prefix });
    if (this.#reverseZones.some((domain) => isWithinDomain(name, domain))) {
      return this.#state!.valid ? { outcome: "no-name", apex: name } : UNAVAILABLE;
    }
    const { host, labels } = splitHost(name, catalogue);
    const shape = hostShape(host);
    const isHost = catalogue.hasName(shape);
    // `_tcp.example.com` lies below `*.example.com`, though its host does not.
    if (!isHost && !catalogue.hasName(hostShape(name))) return FORWARD;
    if (!this.#state!.valid) return UNAVAILABLE;
    if (!isHost || shape !== host) return { outcome: "no-name", apex: host };
    return this.#atHost(question, { catalogue, now, host, labels, apex: host });
  }

  /** Whether a name is one of ours with a search domain behind it, as libc tries it after a failure. */
  #isSearched(name: string): boolean {
    if (`.${name}`.includes(`.${this.zone}.`)) return true;
    const { catalogue, search = [] } = this.#state ?? {};
    return search.some((domain) =>
      name.endsWith(`.${domain}`) && catalogue?.hasName(hostShape(name.slice(0, -domain.length - 1)))
    );
  }

  #inZone(question: ZoneQuestion, { catalogue, now }: Known): ZoneVerdict {
    const { name, type } = question;
    const apex = this.zone;
    if (name === apex) {
      if (type === "SOA" || type === "ANY") return { outcome: "found", records: [{ type: "soa" }], apex };
      if (!catalogue.hasName(name)) return { outcome: "no-data", apex };
    }
    const { host, labels } = splitHost(name, catalogue);
    if (catalogue.hasName(host)) return this.#atHost(question, { catalogue, now, host, labels, apex });
    return { outcome: this.#parents.has(name) ? "no-data" : "no-name", apex };
  }

  /** Answers for a host that is some service's, or for labels such as `_http._tcp` in front of it. */
  #atHost({ type }: ZoneQuestion, at: Known & At): ZoneVerdict {
    const { catalogue, host, labels, apex, now } = at;
    if (labels.length > 0) {
      if (labels.length > 2) return { outcome: "no-name", apex };
      const ports = labels.length < 2 ? [] : portsOf(catalogue.atHost(host), labels as [string, string]);
      const isAsked = type === "SRV" || type === "ANY";
      if (!isAsked || ports.length === 0) return { outcome: "no-data", apex };
      return found(ports.map((port) => ({ type: "srv", port, target: host })), apex);
    }
    if (type !== "A" && type !== "AAAA" && type !== "ANY") return { outcome: "no-data", apex };
    const version = type === "AAAA" ? 6 : 4;
    const own = catalogue.byOwnHost(host);
    const index = own?.index ?? this.#names.indexOf(host, now);
    if (index === undefined) return UNAVAILABLE;
    return found([{ type: "address", address: virtualAddress(catalogue.network, version, index) }], apex);
  }

  #reverse({ name, type }: ZoneQuestion, at: { catalogue: ServiceCatalogue; prefix: IpPrefix }): ZoneVerdict {
    const { catalogue, prefix } = at;
    const address = { version: prefix.version, value: prefix.first };
    const { ipv4, ipv6 } = catalogue.network;
    const pool = prefix.version === 4 ? ipv4 : ipv6;
    const isInPool = prefix.length >= pool.length && prefixContains(pool, address);
    const isWhole = prefix.length === ipBits(prefix.version);
    if (!isInPool && !(isWhole && catalogue.intercepts(address))) return FORWARD;
    if (!this.#state!.valid) return UNAVAILABLE;
    if (!isWhole) return { outcome: "no-data", apex: name };
    const host = this.#hostOf(address, catalogue);
    if (host === undefined) return { outcome: "no-name", apex: name };
    if (type !== "PTR" && type !== "ANY") return { outcome: "no-data", apex: name };
    return found([{ type: "ptr", host }], name);
  }

  #hostOf(address: IpAddress, catalogue: ServiceCatalogue): string | undefined {
    const index = virtualIndex(catalogue.network, address);
    if (index !== undefined && index >= NAME_INDEXES.first && index <= NAME_INDEXES.last) {
      const host = this.#names.hostOf(index);
      return host !== undefined && catalogue.hasName(host) ? host : undefined;
    }
    const match = catalogue.matchAddress(address, { protocol: "icmp" });
    return typeof match === "string" ? undefined : match.service.hosts[0];
  }
}

interface Known {
  readonly catalogue: ServiceCatalogue;
  readonly now: number;
}

interface At {
  readonly host: string;
  /** What stands in front of the host, such as `_http` and `_tcp`. */
  readonly labels: readonly string[];
  readonly apex: string;
}

/** Whether `name` is `domain` or lies below it. */
function isWithinDomain(name: string, domain: string): boolean {
  return name.endsWith(domain) &&
    (name.length === domain.length || name[name.length - domain.length - 1] === ".");
}

function found(records: readonly ZoneRecord[], apex: string): ZoneVerdict {
  return { outcome: "found", records, apex };
}

/** Takes the labels off the front of a name that begin with an underscore, unless a service is called just that. */
function splitHost(name: string, catalogue: ServiceCatalogue): { host: string; labels: readonly string[] } {
  if (name[0] !== "_" || catalogue.atHost(name).some(({ hosts }) => hosts.includes(name))) {
    return { host: name, labels: [] };
  }
  const all = name.split(".");
  const first = all.findIndex((label) => label[0] !== "_");
  const count = first < 0 ? all.length : first;
  return { host: all.slice(count).join("."), labels: all.slice(0, count) };
}

/**
 * A name in which every label that no host has is another: nothing below a wildcard may leave this machine, whatever
 * stands in front.
 */
function hostShape(name: string): string {
  return name.split(".").map((label) => /^[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?$/.test(label) ? label : "x")
    .join(".");
}

/** The lowest port of every range, or the one port that is asked for by its number. */
function portsOf(services: readonly CataloguedService[], [what, protocol]: [string, string]): number[] {
  const asked = /^_[1-9][0-9]{0,4}$/.test(what) ? Number(what.slice(1)) : undefined;
  const ports = new Set<number>();
  for (const service of services) {
    if (!service.protocols.some((name) => `_${name}` === protocol)) continue;
    if (asked === undefined) { for (const { low } of service.ports) ports.add(low); }
    else if (hasPort(service, asked)) ports.add(asked);
  }
  return [...ports].slice(0, MAX_PORTS);
}

function hasPort({ ports }: CataloguedService, port: number): boolean {
  return port <= 65_535 &&
    (ports.length === 0 || ports.some(({ low, high }) => low <= port && port <= high));
}

function parentsOf(catalogue: ServiceCatalogue): Set<string> {
  const { zone } = catalogue.network;
  const parents = new Set<string>();
  for (const { hosts } of catalogue.services()) {
    for (const host of hosts) {
      if (!isWithinDomain(host, zone)) continue;
      for (let dot = host.indexOf("."); dot >= 0; dot = host.indexOf(".", dot + 1)) {
        const parent = host.slice(dot + 1);
        if (parent === zone) break;
        parents.add(parent);
      }
    }
  }
  return parents;
}
