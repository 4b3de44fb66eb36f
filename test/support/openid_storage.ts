/** What an OpenID provider remembers, in memory: outlives a change of its keys, as in a database. */

/** What the provider stores; the rest of it is its own business. */
interface Entry {
  readonly uid?: string;
  readonly userCode?: string;
  readonly grantId?: string;
}

/** Everything of one provider, by kind and id. */
export class OpenidStorage {
  readonly #kinds = new Map<string, Map<string, Entry>>();

  /** The part of one kind, such as `RefreshToken`, with the methods that the provider calls. */
  of(kind: string) {
    const entries = this.#kinds.get(kind) ?? new Map<string, Entry>();
    this.#kinds.set(kind, entries);
    const find = (isIt: (entry: Entry) => boolean) => Promise.resolve(entries.values().find(isIt));
    return {
      upsert: (id: string, entry: Entry) => settle(() => entries.set(id, { ...entry })),
      find: (id: string) => Promise.resolve(entries.get(id)),
      findByUserCode: (code: string) => find(({ userCode }) => userCode === code),
      findByUid: (wanted: string) => find(({ uid }) => uid === wanted),
      consume: (id: string) =>
        settle(() =>
          entries.set(id, { ...entries.get(id), consumed: Math.floor(Date.now() / 1000) } as Entry)
        ),
      destroy: (id: string) => settle(() => entries.delete(id)),
      revokeByGrantId: (grant: string) =>
        settle(() => {
          for (const [id, { grantId }] of entries) if (grantId === grant) entries.delete(id);
        }),
    };
  }
}

function settle(change: () => unknown): Promise<void> {
  change();
  return Promise.resolve();
}
