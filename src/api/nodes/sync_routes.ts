/** `/sync/v1`: what relays call: the stream of changes, the views they want, their reports, tunnel addresses. */

import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { GinnelError } from "../../base/errors.ts";
import type { NetworkChange } from "../../core/network/changes.ts";
import type { NetworkState } from "../../core/network/state.ts";
import { stateToJson } from "../../core/network/state_json.ts";
import { utf8 } from "../../base/bytes.ts";
import { type ApiEnv, createRouter } from "../env.ts";
import { problem, problemSchema } from "../problem.ts";
import { requireNode } from "../require_node.ts";

/** What is told to a relay. */
export type StreamEvent =
  | { readonly type: "snapshot"; readonly epoch: string; readonly state: NetworkState }
  | { readonly type: "changes"; readonly revision: number; readonly changes: readonly NetworkChange[] }
  | { readonly type: "views" | "network" | "released" | "ended" | "heartbeat" };

/** One relay's link to the controller. */
export interface SyncPort {
  follow(
    options: { readonly since: z.infer<typeof Position> | undefined; readonly signal: AbortSignal },
  ): AsyncIterable<StreamEvent>;
  wantViews(change: z.infer<typeof Wants>): Promise<void>;
  report(report: z.infer<typeof Report>): Promise<void>;
  allocate(
    identity: string,
    options?: { readonly metadata?: Readonly<Record<string, unknown>> },
  ): Promise<z.infer<typeof Allocation>>;
  touch(identities: readonly string[]): Promise<void>;
  release(identity: string): Promise<boolean>;
  admitWorkload(spiffeId: string): Promise<boolean>;
}

/** What these routes ask of the controller. */
export interface SyncRoutesOptions {
  /** The link of a relay that has proven itself. */
  readonly linkOf: (relay: string, serial: string) => SyncPort;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** Largest body of these routes: mount them with it. */
export const MAX_SYNC_BODY = 8 << 20;

/** Longest delay a timer takes, in milliseconds. */
const MAX_TIMER_MS = 2 ** 31 - 1;

const SpiffeUri = z.string().startsWith("spiffe://").max(2048);
const Ids = z.array(SpiffeUri).max(1_000).readonly();
/** JSON of a bounded size: it is kept, and a relay may be in enemy hands. */
function notes(maxLength: number) {
  return z.record(z.string().max(128), z.unknown()).readonly()
    .refine((value) => JSON.stringify(value).length <= maxLength, `is longer than ${maxLength} characters`);
}

/** Characters of an audit fact's detail, and of an allocation's metadata. */
const MAX_DETAIL = 65_536;
const MAX_METADATA = 4_096;

const Time = z.number().nonnegative().max(8.64e15);
const Text = z.string().max(2048);

const Position = z.object({ epoch: z.string().min(1).max(64), revision: z.int().nonnegative() });
const StreamQuery = z.object({
  epoch: z.string().min(1).max(64).optional(),
  since: z.coerce.number().int().nonnegative().optional(),
});

const Wants = z.strictObject({ add: Ids, remove: Ids }).openapi("WantedViews");

const Session = z.strictObject({
  id: z.string().min(1).max(128),
  relay: Text,
  identity: SpiffeUri,
  kind: z.enum(["agent", "connector", "tunnel", "user"]),
  remote: Text,
  services: z.array(z.string().max(253)).max(10_000).readonly(),
  openedAt: Time,
  lastSeenAt: Time,
  closedAt: Time.nullable(),
});
const Fact = z.strictObject({
  time: Time,
  event: z.enum(["admin", "enrol", "login", "connect", "deny", "close"]),
  who: Text,
  target: Text,
  outcome: Text,
  detail: notes(MAX_DETAIL),
  source: Text,
});
const Report = z.strictObject({
  batch: z.string().min(1).max(128),
  sessions: z.array(Session).max(1_000).readonly(),
  audit: z.array(Fact).max(1_000).readonly(),
  status: z.strictObject({
    identity: Text,
    revision: z.int().nonnegative(),
    version: z.string().max(64),
    sessions: z.int().nonnegative(),
    lastSeenAt: Time,
  }),
  isFirst: z.boolean().optional(),
}).openapi("RelayReport");

const Allocate = z.strictObject({
  identity: SpiffeUri,
  metadata: notes(MAX_METADATA).optional(),
});
const Allocation = z.union([
  z.object({
    ok: z.literal(true),
    allocation: z.object({
      clientId: z.string(),
      virtualIp: z.string().nullable(),
      virtualIp6: z.string().nullable(),
      allocatedAt: z.number(),
      lastSeenAt: z.number(),
      metadata: z.record(z.string(), z.unknown()).readonly(),
    }).readonly(),
    isNew: z.boolean(),
    reclaimed: z.string().nullable(),
  }).readonly(),
  z.object({ ok: z.literal(false), fault: z.enum(["exhausted", "unknown"]) }).readonly(),
]).openapi("RelayAllocation");

/** Makes the routes; only relays get in. Mount them with `maxBody` {@linkcode MAX_SYNC_BODY}. */
export function syncRoutes({ linkOf, now }: SyncRoutesOptions): OpenAPIHono<ApiEnv> {
  const router = createRouter();
  router.use(requireNode({ kinds: ["relay"] }));
  router.onError((error) => {
    // What a relay asks for at the wrong time is its mistake, not the controller's failure.
    if (error instanceof GinnelError && error.code === "ERR_CONTROLLER_REFUSED") {
      return problem("conflict", { detail: error.message });
    }
    throw error;
  });
  const link = ({ get }: { get(key: "node"): ApiEnv["Variables"]["node"] }) => {
    const node = get("node");
    return linkOf(node.id.uri, node.certificateSerial);
  };
  router.openapi(STREAM, (context) => {
    const { epoch, since: revision } = context.req.valid("query");
    const since = epoch === undefined || revision === undefined ? undefined : { epoch, revision };
    const events = (signal: AbortSignal) => link(context).follow({ since, signal });
    const body = ndjson(events, { lifetime: context.get("node").notAfter - now() });
    return context.body(body, 200, {
      "content-type": "application/x-ndjson",
      "cache-control": "no-store",
    }) as never;
  });
  router.openapi(VIEWS, async (context) => {
    await link(context).wantViews(context.req.valid("json"));
    return context.body(null, 204);
  });
  router.openapi(REPORT, async (context) => {
    await link(context).report(context.req.valid("json"));
    return context.body(null, 204);
  });
  router.openapi(ALLOCATE, async (context) => {
    const { identity, metadata } = context.req.valid("json");
    return context.json(
      await link(context).allocate(identity, metadata === undefined ? {} : { metadata }),
      200,
    );
  });
  router.openapi(TOUCH, async (context) => {
    await link(context).touch(context.req.valid("json").identities);
    return context.body(null, 204);
  });
  router.openapi(RELEASE, async (context) => {
    const released = await link(context).release(context.req.valid("json").identity);
    return context.json({ released }, 200);
  });
  router.openapi(WORKLOAD, async (context) => {
    const admitted = await link(context).admitWorkload(context.req.valid("json").id);
    return context.json({ admitted }, 200);
  });
  return router;
}

/** Events as lines; they are asked for as fast as the relay reads, and end with its certificate. */
function ndjson(
  open: (signal: AbortSignal) => AsyncIterable<StreamEvent>,
  { lifetime }: { readonly lifetime: number },
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const ending = new AbortController();
  const events = open(ending.signal)[Symbol.asyncIterator]();
  let timer: ReturnType<typeof setTimeout> | undefined;
  return new ReadableStream<Uint8Array<ArrayBuffer>>({
    start() {
      timer = setTimeout(() => ending.abort(), Math.min(Math.max(lifetime, 0), MAX_TIMER_MS));
    },
    async pull(controller) {
      const { done, value } = await events.next();
      if (done) {
        clearTimeout(timer);
        controller.close();
      } else controller.enqueue(utf8(JSON.stringify(toJson(value)) + "\n") as Uint8Array<ArrayBuffer>);
    },
    async cancel() {
      clearTimeout(timer);
      ending.abort();
      await events.return?.();
    },
  }, { highWaterMark: 1 });
}

function toJson(event: StreamEvent): object {
  return event.type === "snapshot" ? { ...event, state: stateToJson(event.state) } : event;
}

const PROBLEM = { content: { "application/problem+json": { schema: problemSchema } } };
const REFUSALS = {
  400: { description: "The request is not valid", ...PROBLEM },
  401: { description: "No valid proof", ...PROBLEM },
  403: { description: "Not a relay", ...PROBLEM },
  413: { description: "The request is too large", ...PROBLEM },
  429: { description: "Too many requests", ...PROBLEM },
};
const COMMON = {
  tags: ["sync"],
  security: [{ bearer: [] }],
};
const DONE = { description: "Done" };

function body<S extends z.ZodType>(schema: S) {
  return { body: { required: true, content: { "application/json": { schema } } } } as const;
}

function answer<S extends z.ZodType>(description: string, schema: S) {
  return { description, content: { "application/json": { schema } } } as const;
}

const STREAM = createRoute({
  ...COMMON,
  method: "get",
  path: "/stream",
  summary: "The network and every change of it, one JSON object a line",
  request: { query: StreamQuery },
  responses: {
    ...REFUSALS,
    200: { description: "Events", content: { "application/x-ndjson": { schema: z.string() } } },
  },
});

const VIEWS = createRoute({
  ...COMMON,
  method: "put",
  path: "/views",
  summary: "Changes which identities' signed views come on this relay's stream",
  request: body(Wants),
  responses: { ...REFUSALS, 204: DONE, 409: { description: "This relay has no stream here", ...PROBLEM } },
});

const REPORT = createRoute({
  ...COMMON,
  method: "post",
  path: "/report",
  summary: "Takes sessions, audit facts and the status of this relay; a batch counts once",
  request: body(Report),
  responses: { ...REFUSALS, 204: DONE },
});

const ALLOCATE = createRoute({
  ...COMMON,
  method: "post",
  path: "/addresses",
  summary: "Tunnel addresses of an identity, the same at every relay",
  request: body(Allocate),
  responses: { ...REFUSALS, 200: answer("The addresses, or why there are none", Allocation) },
});

const TOUCH = createRoute({
  ...COMMON,
  method: "post",
  path: "/addresses/touch",
  summary: "Notes that these identities use their addresses now",
  request: body(z.strictObject({ identities: Ids })),
  responses: { ...REFUSALS, 204: DONE },
});

const RELEASE = createRoute({
  ...COMMON,
  method: "post",
  path: "/addresses/release",
  summary: "Gives up an identity's addresses",
  request: body(z.strictObject({ identity: SpiffeUri })),
  responses: { ...REFUSALS, 200: answer("Whether it had some", z.object({ released: z.boolean() })) },
});

const WORKLOAD = createRoute({
  ...COMMON,
  method: "post",
  path: "/workloads",
  summary: "Admits a workload of a foreign trust domain by that domain's rules",
  request: body(z.strictObject({ id: SpiffeUri })),
  responses: { ...REFUSALS, 200: answer("Whether it is admitted", z.object({ admitted: z.boolean() })) },
});
