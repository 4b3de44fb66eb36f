/**
 * What nodes say to each other in JSON: the connector's control stream, the headers in front of a flow, and the
 * lines of an agent's view. Unknown members are dropped and unknown message types come out as `unknown`, so
 * that a newer peer can say more; a known message that is malformed is refused.
 */
import { z } from "zod";
import { MAX_PORT } from "../masque/uri.ts";

/** The most services one message names; a bind of that many fits the longest message. */
const MAX_SERVICES = 128;
/** The longest drain a peer may announce, in seconds. */
const MAX_DRAIN_SECONDS = 3600;

const serviceName = z.string().regex(/^[a-z0-9_](?:[a-z0-9._-]{0,198}[a-z0-9_])?$/);
const spiffeId = z.string().max(2048).regex(/^spiffe:\/\/[a-z0-9._-]{1,255}(?:\/[A-Za-z0-9._-]+)+$/);
/** Flow ids are 64-bit numbers, in decimal: JSON's numbers are too short for them. */
const flowId = z.string().refine((text) => /^(?:0|[1-9][0-9]{0,19})$/.test(text) && BigInt(text) < 2n ** 64n);
/** Text for logs and people. */
const reason = z.string().max(256);
/** How a relay prefers one connector of a service to another; what an older connector leaves out is the default. */
const rank = {
  cost: z.int().min(0).max(65_535).optional(),
  precedence: z.enum(["required", "default", "failed"]).optional(),
};
const drain = z.object({ type: z.literal("drain"), seconds: z.int().min(0).max(MAX_DRAIN_SECONDS) });

const controlMessages = [
  z.object({
    type: z.literal("bind"),
    services: z.array(
      z.object({ name: serviceName, protocol: z.literal("tcp"), healthy: z.boolean(), ...rank }),
    )
      .min(1).max(MAX_SERVICES),
  }),
  z.object({ type: z.literal("bound"), service: serviceName, ok: z.boolean(), reason: reason.optional() }),
  z.object({ type: z.literal("unbind"), services: z.array(serviceName).min(1).max(MAX_SERVICES) }),
  z.object({ type: z.literal("health"), service: serviceName, healthy: z.boolean(), ...rank }),
  drain,
] as const;

const viewMessages = [
  /** The identity's newest signed view. */
  z.object({
    type: z.literal("view"),
    jws: z.string().max(4 * 1024 * 1024).regex(/^[\w-]+\.[\w-]+\.[\w-]+$/),
  }),
  /** What the network consists of, signed by its authority: CAs, relays, controllers, revocations. */
  z.object({
    type: z.literal("network"),
    jws: z.string().max(4 * 1024 * 1024).regex(/^[\w-]+\.[\w-]+\.[\w-]+$/),
  }),
  /** The address the relay sees this node at. */
  z.object({ type: z.literal("observed"), address: z.string().max(64) }),
  drain,
] as const;

/** A message of the control stream, in either direction. */
export const controlMessageSchema = z.union([
  z.discriminatedUnion("type", controlMessages),
  unknownMessage(controlMessages),
]);

/** What the relay says first on a stream it opens to a connector, or on one a connector parked. */
export const flowHeaderSchema = z.object({
  v: z.literal(1),
  /** `flow`: one flow's bytes follow; `session`: an end-to-end session's. */
  kind: z.enum(["flow", "session"]),
  flow: flowId,
  service: serviceName.optional(),
  port: z.int().min(1).max(MAX_PORT).optional(),
  protocol: z.enum(["tcp", "udp", "icmp"]),
  /** Of a flow of datagrams: bytes of the largest payload that reaches the caller as a datagram; 0: none does. */
  maxDatagram: z.int().min(0).max(65_535).optional(),
  /** The SPIFFE ID of the agent, as the relay knows it. */
  caller: spiffeId,
  /** Whether the flow's bytes are sealed records. */
  sealed: z.boolean(),
}).refine(({ kind, service }) => kind === "session" || service !== undefined, {
  message: "a flow names its service",
  path: ["service"],
});

/** The connector's answer, with the meaning HTTP gives to the number. */
export const flowStatusSchema = z.object({ status: z.int().min(200).max(599), reason: reason.optional() });

/** A line of the view stream. */
export const viewMessageSchema = z.union([
  z.discriminatedUnion("type", viewMessages),
  unknownMessage(viewMessages),
]);

/** See {@linkcode controlMessageSchema}. */
export type ControlMessage = z.infer<typeof controlMessageSchema>;
/** See {@linkcode flowHeaderSchema}. */
export type FlowHeader = z.infer<typeof flowHeaderSchema>;
/** See {@linkcode viewMessageSchema}. */
export type ViewMessage = z.infer<typeof viewMessageSchema>;

/** Accepts any message whose type none of `known` has. */
function unknownMessage(known: readonly { readonly shape: { readonly type: z.ZodLiteral<string> } }[]) {
  const types = new Set(known.map(({ shape }) => shape.type.value));
  return z.object({ type: z.string().refine((type) => !types.has(type)) })
    .transform(() => ({ type: "unknown" as const }));
}
