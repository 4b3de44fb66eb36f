/**
 * A process that writes to a store without pause and says on standard output what was acknowledged. Arguments: the store's
 * config as JSON, and a name.
 */

import { SILENT_LOGGER } from "../../src/base/log.ts";
import { openStore } from "../../src/store/open_store.ts";
import { createAgentIn, fact, NOW, pool } from "./store_ground.ts";

const [config = "", name = ""] = Deno.args;
const store = await openStore(JSON.parse(config), { logger: SILENT_LOGGER });

for (let i = 0;; i++) {
  const client = `${name}-${i}`;
  await store.transaction(async (tx) => {
    const { id } = await createAgentIn(tx, client);
    await tx.addEnrolment({ id: client, identityId: id, createdAt: NOW, expiresAt: NOW + 10, usedAt: null });
    await tx.audit(fact({ event: "admin", who: client }));
  });
  say("identity", client);
  if (await store.transaction((tx) => tx.useEnrolment(`shared-${i}`, NOW)) !== undefined) {
    say("used", `shared-${i}`);
  }
  const result = await store.allocateAddress(client, pool({ ipv4: "10.0.0.0/16" }));
  if (result.ok) say("address", `${client}=${result.allocation.virtualIp}`);
  await store.appendAudit([fact({ who: client, outcome: "open" }), fact({ who: client, outcome: "closed" })]);
  say("audit", client);
}

function say(what: string, which: string): void {
  Deno.stdout.writeSync(new TextEncoder().encode(`${what} ${which}\n`));
}
