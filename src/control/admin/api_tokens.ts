/** API tokens, and the first one: with it an administrator makes others, which ends it. */

import type {
  NewApiToken,
  Outcome,
  ResourceInputs,
  WriteContext,
} from "../../core/network/administration.ts";
import type { Principal } from "../../core/network/access.ts";
import type { ApiTokenSpec } from "../../core/network/resources.ts";
import type { StoreTransaction } from "../store.ts";
import { requireNarrower } from "./access_rules.ts";
import type { AdminContext } from "./admin_context.ts";
import { formatApiToken, hashSecret, makeSecret } from "./api_token.ts";
import { refuse, written } from "./decide.ts";

/** Name of the first token. */
const BOOTSTRAP = "bootstrap";

/** Setting that remembers that there has been a first token. */
const BOOTSTRAPPED = "admin.bootstrapped";

const SYSTEM: Principal = { who: "controller", role: "admin", scopes: [] };

/** Makes API tokens. */
export class ApiTokens {
  readonly #context: AdminContext;

  constructor(context: AdminContext) {
    this.#context = context;
  }

  async create(
    { name, spec }: { readonly name: string; readonly spec: ResourceInputs["api-token"] },
    { by }: WriteContext,
  ): Promise<Outcome<NewApiToken>> {
    return await this.#context.change(by, async (tx, note) => {
      requireNarrower(by, spec);
      if (spec.expiresAt !== null && spec.expiresAt <= this.#context.options.now()) {
        refuse({ fault: "invalid", errors: [{ field: "expiresAt", message: "is in the past" }] });
      }
      const made = await make({ name, spec: { ...spec, bootstrap: false } }, tx);
      await note({ action: "create", after: made.resource });
      if (spec.role !== "admin" || spec.scopes.length > 0) return made;
      const first = await tx.find("api-token", BOOTSTRAP);
      if (first?.spec.bootstrap === true) {
        written(await tx.remove("api-token", first.id));
        await note({
          action: "delete",
          before: first,
          detail: { reason: "an administrator's token was made" },
        });
      }
      return made;
    });
  }

  /**
   * Makes the network's first token and returns its text, once; undefined when there has been one. `renew` makes it anew
   * for whoever is locked out and owns the machine.
   */
  async ensureBootstrap({ renew = false }: { readonly renew?: boolean } = {}): Promise<string | undefined> {
    const { store } = this.#context.options;
    if (!renew && await store.getSetting(BOOTSTRAPPED) !== undefined) return undefined;
    const outcome = await this.#context.change(SYSTEM, async (tx, note) => {
      const before = await tx.find("api-token", BOOTSTRAP);
      if (before !== undefined) {
        // Another controller that starts at the same moment has made it and will print it.
        if (!renew || !before.spec.bootstrap) refuse({ fault: "exists" });
        written(await tx.remove("api-token", before.id));
      }
      const spec = { role: "admin", scopes: [], expiresAt: null, bootstrap: true } as const;
      const made = await make({ name: BOOTSTRAP, spec }, tx);
      await note({ action: "create", after: made.resource });
      return made.token;
    });
    await store.initSetting(BOOTSTRAPPED, new Date(this.#context.options.now()).toISOString());
    return outcome.ok ? outcome.value : undefined;
  }
}

async function make(
  { name, spec }: { readonly name: string; readonly spec: Omit<ApiTokenSpec, "secretHash"> },
  tx: StoreTransaction,
): Promise<NewApiToken> {
  const secret = makeSecret();
  const resource = written(
    await tx.create("api-token", { name, spec: { ...spec, secretHash: hashSecret(secret) } }),
  );
  return { resource, token: formatApiToken({ id: resource.id, secret }) };
}
