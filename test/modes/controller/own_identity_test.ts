/** The certificate of a server beside the CA: kept as long as it fits, made anew when it does not. */

import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { CaKeeper } from "../../../src/control/ca/ca_keeper.ts";
import { createCaDirectory } from "../../../src/identity/ca_directory.ts";
import { parseCertificatesPem } from "../../../src/identity/certificate.ts";
import type { Identity } from "../../../src/identity/identity_file.ts";
import { activateCa, stageCa } from "../../../src/identity/ca_rollover.ts";
import { OwnIdentity } from "../../../src/modes/controller/own_identity.ts";
import { openStore } from "../../../src/store/open_store.ts";

const DAY = 86_400_000;
const NAMES = ["abc.example", "2001:db8:0:0::1", "127.0.0.1"];

function serialOf({ certificatePem }: Identity): string {
  return parseCertificatesPem(certificatePem)[0]!.serial;
}

Deno.test("a server's certificate is kept over a restart, and made anew for other names, another CA or none that fits", async (t) => {
  const folder = await Deno.makeTempDir();
  await using store = await openStore({ kind: "sqlite", path: `${folder}/db` }, { logger: SILENT_LOGGER });
  await createCaDirectory(`${folder}/ca`, { trustDomain: "d.example", now: Date.now(), days: 365 });
  const ca = await CaKeeper.open(`${folder}/ca`, { logger: SILENT_LOGGER, now: Date.now });
  const renewed: Identity[] = [];
  const open = async (names: readonly string[] = NAMES) => {
    const own = await OwnIdentity.open({
      ca,
      store,
      kind: "controller",
      name: "one",
      path: `${folder}/id.json`,
      life: 30 * DAY,
      names,
      logger: SILENT_LOGGER,
      onRenewed: (identity) => renewed.push(identity),
    });
    own[Symbol.dispose]();
    return own;
  };
  try {
    const first = await open();
    await t.step("kept while it fits, however an address is spelt", async () => {
      assert.equal(serialOf((await open()).identity), serialOf(first.identity));
      await first.refresh();
      assert.deepEqual(renewed, []);
      const resource = await store.find("identity", first.identity.id.uri);
      assert.deepEqual((await store.certificates(resource!.id)).map(({ serial }) => serial), [
        serialOf(first.identity),
      ]);
    });
    await t.step("made anew for a name that is only part of one it has", async () => {
      const other = await open(["bc.example"]);
      assert.notEqual(serialOf(other.identity), serialOf(first.identity));
      assert.ok(parseCertificatesPem(other.identity.certificatePem)[0]!.serverNames.includes("bc.example"));
    });
    await t.step("made anew when the file cannot be used", async () => {
      await Deno.writeTextFile(`${folder}/id.json`, "{}");
      assert.notEqual(serialOf((await open()).identity), serialOf(first.identity));
    });
    await t.step("renewed once when the next CA is trusted, and again when it issues", async () => {
      const own = await open();
      for (
        const step of [
          () => stageCa(`${folder}/ca`, { now: Date.now(), days: 365 }),
          () => activateCa(`${folder}/ca`),
        ]
      ) {
        await step();
        assert.equal(await ca.reload(), true);
        renewed.length = 0;
        await own.refresh();
        await own.refresh();
        assert.equal(renewed.length, 1);
        assert.deepEqual(own.identity.trust.roots, ca.roots());
      }
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
