/** The trust file for nodes with an SVID: from a real controller, believed only as far as the identity's own trust. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { createAuthority } from "../../../src/identity/authority.ts";
import { updateIdentityFile } from "../../../src/identity/identity_file.ts";
import { verifyNetworkDocument } from "../../../src/identity/network_document.ts";
import { enrolDevice } from "../../../src/modes/enrol/enrol_device.ts";
import { fetchTrust } from "../../../src/modes/enrol/network_trust.ts";
import { EnrolmentGround } from "../../support/enrolment_ground.ts";

Deno.test("fetchTrust() writes what the controller signs now, beside the authorities that sign it", async () => {
  await using ground = await EnrolmentGround.open();
  const path = await enrolled(ground);
  const file = JSON.parse(await fetchTrust(path));
  const document = await verifyNetworkDocument(file.network, {
    authorities: file.authorities,
    trustDomain: file.trustDomain,
  });
  assert.deepEqual(document.roots, ground.ca.roots());
  assert.deepEqual(file.authorities, [ground.ca.authority.publicJwk]);
  assert.equal(JSON.stringify(file).includes("PRIVATE"), false);
});

Deno.test("fetchTrust() does not believe a controller whose document no pinned authority signed, or an old one", async () => {
  await using ground = await EnrolmentGround.open();
  const path = await enrolled(ground);
  const { publicJwk } = await createAuthority();
  const original = await Deno.readTextFile(path);
  await updateIdentityFile(path, ({ trust }) => ({ trust: { ...trust, authorities: [publicJwk] } }));
  await assert.rejects(fetchTrust(path), { code: "ERR_NETWORK_DOCUMENT_AUTHORITY" });
  await Deno.writeTextFile(path, original);
  await updateIdentityFile(path, ({ network }) => ({ network: { ...network!, rev: 1_000_000 } }));
  await assert.rejects(fetchTrust(path), { code: "ERR_NETWORK_DOCUMENT_OUTDATED" });
});

Deno.test("fetchTrust() says so when an identity knows no controller", async () => {
  await using ground = await EnrolmentGround.open();
  const path = await enrolled(ground);
  await updateIdentityFile(path, ({ network }) => ({ network: { ...network!, controllers: [] } }));
  await assert.rejects(fetchTrust(path), { code: "ERR_NO_CONTROLLER" });
});

/** The path of an identity that was enrolled at the ground's controller. */
async function enrolled(ground: EnrolmentGround): Promise<string> {
  await ground.serve();
  const path = join(ground.folder, "alice.json");
  await enrolDevice({ token: await ground.token(await ground.addIdentity("alice")), path });
  return path;
}
