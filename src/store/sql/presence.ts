/** Who is connected where, as relays report it. */

import type { Page } from "../../core/network/listing.ts";
import type { RelayStatus, SessionRecord, Store } from "../../control/store.ts";
import { fromCursor, toCursor } from "./cursor.ts";
import type { Database } from "./database.ts";
import { toJson, toText, toTime } from "./json_text.ts";
import type { Tables } from "./schema.ts";

/** Rows of one insert. */
const BATCH = 1_000;

/** Most items of a page. */
const MAX_LIMIT = 500;

/** The tables of sessions and relays. */
export class Presence {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Inserts or replaces; of two records with one id the later counts. A session that is closed stays so. */
  async putSessions(sessions: readonly SessionRecord[]): Promise<void> {
    const rows = [
      ...new Map(sessions.map((one) => [JSON.stringify([one.relay, one.id]), toRow(one)])).values(),
    ];
    if (rows.length === 0) return;
    await this.#database.writer.transaction().execute(async (tx) => {
      for (let start = 0; start < rows.length; start += BATCH) {
        await tx.insertInto("sessions").values(rows.slice(start, start + BATCH))
          .onConflict((conflict) =>
            conflict.columns(["relay", "id"]).doUpdateSet((eb) => ({
              identity: eb.ref("excluded.identity"),
              kind: eb.ref("excluded.kind"),
              remote: eb.ref("excluded.remote"),
              services: eb.ref("excluded.services"),
              opened_at: eb.ref("excluded.opened_at"),
              last_seen_at: eb.ref("excluded.last_seen_at"),
              closed_at: eb.fn.coalesce("excluded.closed_at", "sessions.closed_at"),
            }))
          ).execute();
      }
    });
  }

  /** A page, newest first. */
  async sessions(query: Parameters<Store["sessions"]>[0]): Promise<Page<SessionRecord>> {
    let table = this.#database.reader.selectFrom("sessions");
    if (query.identity !== undefined) table = table.where("identity", "=", query.identity);
    if (query.relay !== undefined) table = table.where("relay", "=", query.relay);
    if (query.open !== undefined) table = table.where("closed_at", query.open ? "is" : "is not", null);
    const { total } = await table.select((eb) => eb.fn.countAll().as("total")).executeTakeFirstOrThrow();
    const limit = Math.min(Math.max(Math.trunc(query.limit), 1), MAX_LIMIT);
    let page = table.selectAll().orderBy("opened_at", "desc").orderBy("id", "desc").orderBy("relay", "desc")
      .limit(limit + 1);
    if (query.cursor !== undefined) {
      const [openedAt, id, relay] = fromCursor(query.cursor, [0, "", ""] as const);
      page = page.where((eb) =>
        eb(eb.refTuple("opened_at", "id", "relay"), "<", eb.tuple(openedAt, id, relay))
      );
    }
    const rows = await page.execute();
    const items = rows.slice(0, limit).map(toSession);
    const last = items.at(-1);
    const isMore = rows.length > limit && last !== undefined;
    return {
      items,
      cursor: isMore ? toCursor([last.openedAt, last.id, last.relay]) : null,
      total: Number(total),
    };
  }

  /** Closes what a relay left open; returns how many. */
  async closeSessions(relay: string, now: number): Promise<number> {
    const closed = await this.#database.writer.updateTable("sessions").set({ closed_at: toTime(now) })
      .where("relay", "=", relay).where("closed_at", "is", null).returning("id").execute();
    return closed.length;
  }

  async putRelay({ identity, revision, version, sessions, lastSeenAt }: RelayStatus): Promise<void> {
    const row = { revision, version: toText(version), sessions, last_seen_at: toTime(lastSeenAt) };
    await this.#database.writer.insertInto("relays").values({ identity, ...row })
      .onConflict((conflict) => conflict.column("identity").doUpdateSet(row)).execute();
  }

  /** All, by identity. */
  async relays(): Promise<RelayStatus[]> {
    const rows = await this.#database.reader.selectFrom("relays").selectAll().orderBy("identity").execute();
    return rows.map(({ identity, revision, version, sessions, last_seen_at }) => ({
      identity,
      revision,
      version,
      sessions,
      lastSeenAt: last_seen_at,
    }));
  }
}

function toRow(session: SessionRecord): Tables["sessions"] {
  const { id, relay, identity, kind, remote, services, openedAt, lastSeenAt, closedAt } = session;
  return {
    id: toText(id),
    relay,
    identity: toText(identity),
    kind,
    remote: toText(remote),
    services: toJson(services),
    opened_at: toTime(openedAt),
    last_seen_at: toTime(lastSeenAt),
    closed_at: closedAt === null ? null : toTime(closedAt),
  };
}

function toSession(row: Tables["sessions"]): SessionRecord {
  return {
    id: row.id,
    relay: row.relay,
    identity: row.identity,
    kind: row.kind as SessionRecord["kind"],
    remote: row.remote,
    services: JSON.parse(row.services) as string[],
    openedAt: row.opened_at,
    lastSeenAt: row.last_seen_at,
    closedAt: row.closed_at,
  };
}
