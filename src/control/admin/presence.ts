/** What administrators see of who is there: relays, connectors, sessions; and how a session is ended. */

import type {
  ConnectorSummary,
  Outcome,
  RelaySummary,
  WriteContext,
} from "../../core/network/administration.ts";
import type { Resource } from "../../core/network/resources.ts";
import type { ListQuery, Page } from "../../core/network/listing.ts";
import type { RelayStatus, SessionRecord } from "../store.ts";
import type { AdminContext } from "./admin_context.ts";

/** Reads presence and ends sessions. */
export class Presence {
  readonly #context: AdminContext;

  constructor(context: AdminContext) {
    this.#context = context;
  }

  async relays(): Promise<readonly RelaySummary[]> {
    const { store } = this.#context.options;
    const statuses = new Map((await store.relays()).map((status) => [status.identity, status]));
    const { items } = await store.list("identity", { limit: 500, where: { type: "relay" } });
    const known = items.map((identity) => {
      const status = statuses.get(identity.spec.spiffeId);
      statuses.delete(identity.spec.spiffeId);
      return summary(identity, status);
    });
    return [...known, ...[...statuses.values()].map((status) => summary(undefined, status))];
  }

  async connectors(query: ListQuery): Promise<Page<ConnectorSummary>> {
    const { store } = this.#context.options;
    const page = await store.list("identity", { ...query, where: { ...query.where, type: "connector" } });
    const items = await Promise.all(page.items.map(async ({ id, name, spec }): Promise<ConnectorSummary> => {
      const { spiffeId, disabled } = spec;
      const { items: all } = await store.sessions({ identity: spiffeId, open: true, limit: 100 });
      const open = all.filter(({ kind }) => kind === "connector");
      return {
        id,
        name,
        spiffeId,
        disabled,
        relays: [...new Set(open.map(({ relay }) => relay))].sort(),
        services: [...new Set(open.flatMap(({ services }) => services))].sort(),
        lastSeenAt: open.length === 0 ? null : Math.max(...open.map(({ lastSeenAt }) => lastSeenAt)),
      };
    }));
    return { ...page, items };
  }

  /** Tells the relay that holds it; it closes there, and the relay's next report says so. */
  async endSession(id: string, { by }: WriteContext): Promise<Outcome<SessionRecord>> {
    const session = await this.#findOpen(id);
    if (session === undefined) return { ok: false, fault: "missing" };
    await this.#context.options.endSession(session);
    const { identity, relay, kind } = session;
    await this.#context.note(by, {
      action: "end",
      target: `session/${id}`,
      detail: { identity, relay, kind },
    });
    return { ok: true, value: session };
  }

  async #findOpen(id: string): Promise<SessionRecord | undefined> {
    const { store } = this.#context.options;
    let cursor: string | null = null;
    do {
      const page: Page<SessionRecord> = await store.sessions({
        open: true,
        limit: 500,
        ...(cursor === null ? {} : { cursor }),
      });
      const found = page.items.find((session) => session.id === id);
      if (found !== undefined) return found;
      cursor = page.cursor;
    } while (cursor !== null);
    return undefined;
  }
}

function summary(identity: Resource<"identity"> | undefined, status: RelayStatus | undefined): RelaySummary {
  const spiffeId = identity?.spec.spiffeId ?? status?.identity ?? "";
  return {
    id: identity?.id ?? null,
    name: identity?.name ?? spiffeId.slice(spiffeId.lastIndexOf("/") + 1),
    spiffeId,
    address: identity?.spec.address ?? null,
    disabled: identity?.spec.disabled ?? true,
    revision: status?.revision ?? null,
    version: status?.version ?? null,
    sessions: status?.sessions ?? 0,
    lastSeenAt: status?.lastSeenAt ?? null,
  };
}
