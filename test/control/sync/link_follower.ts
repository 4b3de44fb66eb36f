/** The relay's end in tests of links: what it has heard, and what it tells. */

import type { SyncEvent } from "../../../src/control/sync/events.ts";
import type { ControllerLink, RelayReport } from "../../../src/control/sync/link.ts";
import { applyChanges } from "../../../src/core/network/apply.ts";
import type { NetworkState } from "../../../src/core/network/state.ts";
import { verifyView } from "../../../src/identity/view.ts";
import { parseSpiffeId } from "../../../src/identity/spiffe_id.ts";
import { eventually } from "../../support/eventually.ts";
import { idOf, RELAY, type SyncGround } from "./sync_ground.ts";

/** What a follower has heard. */
class Stream {
  readonly events: SyncEvent[] = [];
  readonly views = new Map<string, string>();
  ended: Promise<void> = Promise.resolve();

  /** The state as a relay would have it. */
  state: NetworkState | undefined;

  async next<T extends SyncEvent["type"]>(type: T): Promise<SyncEvent & { type: T }> {
    return await eventually(() => this.events.find((event) => event.type === type)) as SyncEvent & {
      type: T;
    };
  }
}

/** Follows a link while `run` looks at what it brings. */
export async function following<T>(
  link: ControllerLink,
  run: (stream: Stream) => Promise<T>,
  since?: { readonly epoch: string; readonly revision: number },
): Promise<T> {
  const ending = new AbortController();
  const stream = new Stream();
  stream.ended = (async () => {
    try {
      for await (const event of link.follow({ since, signal: ending.signal })) {
        stream.events.push(event);
        if (event.type === "snapshot") stream.state = event.state;
        if (event.type === "changes" && stream.state) stream.state = applyChanges(stream.state, event);
        if (event.type === "views") {
          for (const { identity, jws } of event.views) stream.views.set(identity, jws);
        }
      }
    } catch (error) {
      if (!ending.signal.aborted) throw error;
    }
  })();
  try {
    return await run(stream);
  } finally {
    ending.abort();
    await stream.ended;
  }
}

/** The claims of a view, its signature checked. */
export function verified(ground: SyncGround, jws: string) {
  const claims = JSON.parse(atob(jws.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/")));
  return verifyView(jws, {
    authorities: [ground.authority.publicJwk],
    subject: parseSpiffeId(claims.sub),
    now: Date.now(),
  });
}

/** What a relay tells: these facts, and a session with another relay's name. */
export function reportOf({ audit = [] }: { readonly audit?: RelayReport["audit"] }): RelayReport {
  const now = Date.now();
  return {
    batch: "1",
    audit,
    sessions: [{
      id: "s1",
      relay: idOf("relay/other"),
      identity: idOf("agent/alice"),
      kind: "agent",
      remote: "192.0.2.1:1",
      services: [],
      openedAt: now,
      lastSeenAt: now,
      closedAt: null,
    }],
    status: { identity: idOf("relay/other"), revision: 1, version: "1", sessions: 1, lastSeenAt: now },
  };
}

/** A fact for the audit log. */
export function fact(event: "connect" | "deny" | "admin"): RelayReport["audit"][number] {
  const who = idOf("agent/alice");
  return { time: 1_000, event, who, target: "web", outcome: "ok", detail: {}, source: RELAY };
}
