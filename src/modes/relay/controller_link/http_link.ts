/** The link of a relay to controllers behind HTTPS; each request carries a fresh proof, and the next one takes over. */

import { z } from "zod";
import { errorMessage, GinnelError } from "../../../base/errors.ts";
import type { SyncEvent, SyncPosition } from "../../../control/sync/events.ts";
import {
  ControllerError,
  type ControllerLink,
  type LinkAllocation,
  type RelayReport,
} from "../../../control/sync/link.ts";
import { changesFromJson, stateFromJson } from "../../../core/network/state_json.ts";
import type {
  ControllerHttp,
  ControllerRequest,
  ControllerResponse,
} from "../../../io/controller/https_client.ts";

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
    }),
    isNew: z.boolean(),
    reclaimed: z.string().nullable(),
  }),
  z.object({ ok: z.literal(false), fault: z.enum(["exhausted", "unknown"]) }),
]);

const Revision = z.int().nonnegative();

const Event = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("snapshot"),
    epoch: z.string().min(1).max(64),
    state: z.unknown().transform(stateFromJson),
  }),
  z.object({
    type: z.literal("changes"),
    revision: Revision,
    changes: z.unknown().transform(changesFromJson),
  }),
  z.object({
    type: z.literal("views"),
    views: z.array(z.object({ identity: z.string(), jws: z.string() })).readonly(),
  }),
  z.object({ type: z.literal("network"), jws: z.string() }),
  z.object({ type: z.literal("released"), identity: z.string() }),
  z.object({ type: z.literal("ended"), session: z.string() }),
  z.object({ type: z.literal("heartbeat"), revision: Revision, time: z.number() }),
]);

/** A link over HTTPS. */
export class HttpLink implements ControllerLink {
  readonly #http: Pick<ControllerHttp, "request" | "lines">;

  constructor(http: Pick<ControllerHttp, "request" | "lines">) {
    this.#http = http;
  }

  async *follow(
    { since, signal }: { readonly since: SyncPosition | undefined; readonly signal: AbortSignal },
  ): AsyncIterable<SyncEvent> {
    const query = since === undefined
      ? ""
      : `?${new URLSearchParams({ epoch: since.epoch, since: `${since.revision}` })}`;
    const answer = await this.#try(() =>
      this.#http.lines({ method: "GET", path: `/sync/v1/stream${query}`, signal })
    );
    if (answer.status !== 200) throw refusal(answer);
    for await (const line of answer.lines) {
      signal.throwIfAborted();
      yield readEvent(line);
    }
  }

  async wantViews(
    change: { readonly add: readonly string[]; readonly remove: readonly string[] },
  ): Promise<void> {
    await this.#ask({ method: "PUT", path: "/sync/v1/views", json: change });
  }

  async report(report: RelayReport): Promise<void> {
    // A batch counts once, so that it may be sent again.
    await this.#ask({ method: "POST", path: "/sync/v1/report", json: report, repeatable: true });
  }

  async allocate(
    identity: string,
    options: { readonly metadata?: Readonly<Record<string, unknown>> } = {},
  ): Promise<LinkAllocation> {
    const json = { identity, ...options };
    return Allocation.parse(
      await this.#ask({ method: "POST", path: "/sync/v1/addresses", json, repeatable: true }),
    );
  }

  async touch(identities: readonly string[]): Promise<void> {
    const json = { identities };
    await this.#ask({ method: "POST", path: "/sync/v1/addresses/touch", json, repeatable: true });
  }

  async release(identity: string): Promise<boolean> {
    const answer = await this.#ask({
      method: "POST",
      path: "/sync/v1/addresses/release",
      json: { identity },
    });
    return z.object({ released: z.boolean() }).parse(answer).released;
  }

  async admitWorkload(spiffeId: string): Promise<boolean> {
    const json = { id: spiffeId };
    const answer = await this.#ask({ method: "POST", path: "/sync/v1/workloads", json, repeatable: true });
    return z.object({ admitted: z.boolean() }).parse(answer).admitted;
  }

  async #ask(request: ControllerRequest): Promise<unknown> {
    const answer = await this.#try(() => this.#http.request(request));
    if (answer.status < 200 || answer.status >= 300) throw refusal(answer);
    return answer.json;
  }

  /** Whatever keeps an answer from coming means the same to a relay: no controller is there now. */
  async #try<T>(ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (cause) {
      if (!(cause instanceof GinnelError)) throw cause;
      throw new ControllerError("ERR_CONTROLLER_UNAVAILABLE", cause.message, {
        cause,
        ...(cause.hint === undefined ? {} : { hint: cause.hint }),
      });
    }
  }
}

function readEvent(line: string): SyncEvent {
  try {
    return Event.parse(JSON.parse(line));
  } catch (cause) {
    const detail = errorMessage(cause).slice(0, 200);
    throw new ControllerError("ERR_CONTROLLER_REFUSED", `Cannot read the controller's event: ${detail}`, {
      cause,
      hint: "Run the same version of Ginnel everywhere",
    });
  }
}

function refusal(answer: Pick<ControllerResponse, "status" | "json" | "controller">): ControllerError {
  const problem = z.object({ title: z.string(), detail: z.string().optional() }).safeParse(answer.json);
  const reason = problem.success ? problem.data.detail ?? problem.data.title : "no reason given";
  // The controller's own trouble, or too much at once, is over after a while.
  const isPassing = answer.status >= 500 || answer.status === 429;
  return new ControllerError(
    isPassing ? "ERR_CONTROLLER_UNAVAILABLE" : "ERR_CONTROLLER_REFUSED",
    `${answer.controller} answers ${answer.status}: ${reason.slice(0, 300)}`,
  );
}
