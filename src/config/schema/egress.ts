/** Schema of egress policy files: who may send packets through a tunnel, and where. Reads zgate's files as they are. */

import { z } from "zod";
import { parseHostPort } from "../../base/address.ts";
import { formatPrefix, type IpAddress, ipBits, type IpPrefix, parseIp, parsePrefix } from "../../base/ip.ts";
import type { EgressAction, EgressRule, PortRange } from "../../core/egress/document.ts";
import { unique } from "./common.ts";

const RULE_TYPES = ["ip_cidr", "fqdn", "identity", "connector", "default"] as const;

const ATTRIBUTE = String.raw`#[^\s#@\x00-\x1f\x7f][^\s\x00-\x1f\x7f]{0,127}`;
const IDENTITY_NAME = String.raw`(?:(?:connector|agent|user)/)?[A-Za-z0-9._-]{1,63}`;
const SPIFFE_ID = String.raw`spiffe://[a-z0-9._-]{1,255}(?:/[A-Za-z0-9._-]{1,255}){1,16}`;
const IDENTITY_WORD = new RegExp(`^(?:${ATTRIBUTE}|${IDENTITY_NAME}|${SPIFFE_ID})$`, "u");
const HOST_NAME =
  /^(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;

const UNQUOTED = 'is empty: put "#…" in quotes, since YAML takes a bare # for a comment';

/** Protocols by name. */
const PROTOCOLS: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 };

/** Protocols that have ports; a rule with ports for others could never match. */
const WITH_PORTS = [6, 17];

const action = z.enum(["allow", "deny", "drop", "reject"])
  .transform((word): EgressAction => word === "deny" ? "drop" : word);

const protocol = z.union([z.string(), z.int()], { error: "expected tcp, udp, icmp, icmpv6, any or a number" })
  .transform((word, context): number | null => {
    if (word === "any") return null;
    const number = typeof word === "number" ? word : PROTOCOLS[word] ?? readNumber(word, 255);
    if (number !== undefined && number >= 0 && number <= 255) return number;
    return refuse(context, "not a protocol: write tcp, udp, icmp, icmpv6, any or a number from 0 to 255");
  }).meta({ type_name: "protocol" });

const portRange = z.union([z.string(), z.int()], { error: 'expected a port such as 443, or "8000-8100"' })
  .transform((word, context): PortRange => {
    const [from, to, ...rest] = String(word).split("-").map((part) => readNumber(part, 65_535));
    const first = from;
    const last = String(word).includes("-") ? to : from;
    if (first !== undefined && last !== undefined && rest.length === 0 && first <= last) {
      return { first, last };
    }
    return refuse(context, 'not a port: write 443, or a range such as "8000-8100"');
  }).meta({ type_name: "port or range" });

const metadata = z.record(z.string(), z.unknown());

const rule = z.strictObject({
  id: z.string().min(1).max(255).describe("Name for logs; unique among the rules of its client."),
  type: z.enum(RULE_TYPES).describe(
    "`ip_cidr`: addresses; `fqdn`: names, known by the DNS answers that cross the tunnel; `identity`: other clients; " +
      "`connector`: kept for zgate, matches no packet; `default`: everything but other clients.",
  ),
  action: action.describe(
    "`allow`; `drop` (also `deny`): silently; `reject`: with an ICMP message. The first rule that matches decides.",
  ),
  destinations: z.array(
    z.string({ error: (issue) => issue.input === null ? UNQUOTED : undefined }).min(1).max(2048),
  )
    .max(1_024).exactOptional().describe(
      "`ip_cidr`: `10.0.0.0/8`; `fqdn`: `example.com`, `*.example.com`; `identity`: `agent/bob`, `#attribute`, `#all`.",
    ),
  connector_id: z.string().min(1).max(255).exactOptional().describe("Of a `connector` rule."),
  protocol: protocol.exactOptional().describe("`tcp`, `udp`, `icmp`, `icmpv6`, a number, or `any`."),
  protocols: z.array(protocol).min(1).max(256).exactOptional().describe("Several protocols."),
  ports: z.array(portRange).min(1).max(256).exactOptional()
    .describe('Destination ports: `443`, `"8000-8100"`; with them the rule matches TCP and UDP only.'),
  description: z.string().max(4_096).exactOptional().describe("For people."),
  metadata: metadata.default({}).describe("For people; nothing depends on it."),
}).transform((rule, context): EgressRule => {
  const issues = (path: PropertyKey[], message: string) =>
    context.addIssue({ code: "custom", path, message });
  if (rule.protocol !== undefined && rule.protocols !== undefined) {
    issues(["protocols"], "give protocol or protocols, not both");
  }
  const listed = rule.protocols ?? (rule.protocol === undefined ? [null] : [rule.protocol]);
  const protocols = listed.includes(null) ? null : listed.filter((number) => number !== null);
  const ports = rule.ports ?? null;
  if (ports !== null && protocols?.some((number) => !WITH_PORTS.includes(number))) {
    issues(["ports"], "only tcp and udp have ports");
  }
  const common = { id: rule.id, action: rule.action, protocols, ports, metadata: rule.metadata };
  if (rule.type !== "connector" && rule.connector_id !== undefined) {
    issues(["connector_id"], "only a rule of type connector has one");
  }
  if (rule.type === "default") {
    if (rule.destinations !== undefined && rule.destinations.length > 0) {
      issues(
        ["destinations"],
        "a default rule matches every destination: leave this out, or choose another type",
      );
    }
    return { ...common, type: "default", destinations: [] };
  }
  const words = rule.destinations ?? [];
  if (words.length === 0) issues(["destinations"], `a rule of type ${rule.type} needs at least one`);
  const each = <T>(read: (word: string) => T | { readonly fault: string }): T[] =>
    words.flatMap((word, index) => {
      const value = read(word);
      if (typeof value !== "object" || value === null || !("fault" in value)) return [value as T];
      issues(["destinations", index], value.fault);
      return [];
    });
  switch (rule.type) {
    case "ip_cidr":
      return { ...common, type: "ip_cidr", destinations: each(readPrefix) };
    case "fqdn":
      return { ...common, type: "fqdn", destinations: each(readName) };
    case "identity":
      return { ...common, type: "identity", destinations: each(readIdentityWord) };
    case "connector":
      if (rule.connector_id === undefined) issues(["connector_id"], "is missing");
      return {
        ...common,
        type: "connector",
        connectorId: rule.connector_id ?? "",
        destinations: each(readTarget),
      };
  }
});

const client = z.strictObject({
  description: z.string().max(4_096).exactOptional().describe("For people."),
  metadata: metadata.exactOptional().describe("For people; nothing depends on it."),
  rules: z.array(rule).max(4_096).superRefine(unique("id"))
    .describe("In order: the first that matches decides."),
});

const address = z.string().transform((text, context): IpAddress =>
  parseIp(text) ?? refuse(context, "not an IP address")
).meta({ type_name: "IP address" });

/** Schema of a whole egress policy file. */
export const egressSchema = z.strictObject({
  version: z.literal(["1.0", 1]).exactOptional().describe("`1.0`."),
  metadata: z.looseObject({ name: z.string().max(255).exactOptional().describe("Name for logs.") })
    .prefault({}).describe("For people; only the name is used."),
  default_action: action.exactOptional()
    .describe("What becomes of packets that no rule matches; absent: they are dropped."),
  resolvers: z.array(address).min(1).max(64).exactOptional().describe(
    "Name servers whose answers `fqdn` rules believe; absent: all that rules let a client ask. " +
      "Give them where clients may ask any server: one under a client's control can give any address any name.",
  ),
  clients: z.record(z.string(), client).superRefine((clients, context) => {
    for (const name of Object.keys(clients)) {
      if (IDENTITY_WORD.test(name)) continue;
      const message = "not a client: write NAME, agent/NAME, a SPIFFE ID, #attribute or #all";
      context.addIssue({ code: "custom", path: [name], message });
    }
  }).describe(
    "Who: `alice` (any agent or user of that name; with a controller, any agent), `agent/alice`, a SPIFFE ID, `#attribute`, `#all`. Exact entries " +
      "come first, then attributes in this order, then `#all`. Whom nothing names gets no tunnel.",
  ),
});

type Read<T> = T | { readonly fault: string };

function readPrefix(text: string): Read<IpPrefix> {
  const prefix = parsePrefix(text);
  if (prefix === undefined) {
    return { fault: "not an address or prefix: write 192.0.2.7, 10.0.0.0/8 or fd00::/8" };
  }
  const { version } = prefix;
  const address = parseIp(text.split("/")[0]!)!;
  if (address.value !== prefix.first) {
    const whole = formatPrefix({ version, first: address.value, length: ipBits(version) });
    return { fault: `has bits set beyond its length: write ${formatPrefix(prefix)} or ${whole}` };
  }
  if (version === 6 && prefix.first >> 32n === 0xffffn) {
    return { fault: "an IPv4 address in IPv6 form, which packets do not have: write it as IPv4" };
  }
  return prefix;
}

function readName(text: string): Read<string> {
  const name = text.toLowerCase().replace(/\.$/, "");
  if (HOST_NAME.test(name) && name.length <= 253 && parseIp(name) === undefined) return name;
  return { fault: "not a name: write example.com or *.example.com (international names in their xn-- form)" };
}

function readIdentityWord(text: string): Read<string> {
  if (IDENTITY_WORD.test(text)) return text;
  return { fault: "not an identity: write NAME, agent/NAME, a SPIFFE ID, #attribute or #all" };
}

function readTarget(text: string): Read<string> {
  try {
    if (parseHostPort(text).port > 0) return text;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return { fault: "not a target: write host:port" };
}

function readNumber(text: string, max: number): number | undefined {
  const number = /^(?:0|[1-9][0-9]{0,4})$/.test(text) ? Number(text) : NaN;
  return number <= max ? number : undefined;
}

function refuse(context: z.RefinementCtx, message: string): never {
  context.addIssue({ code: "custom", message });
  return z.NEVER;
}
