/** A device's enrolment over real HTTPS: attacks on it, and that a token or a file is never lost for nothing. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { readEnrolmentToken, signEnrolmentToken } from "../../../src/identity/enrolment_token.ts";
import { loadIdentity } from "../../../src/identity/identity_file.ts";
import { activateCa, retireCas, stageCa } from "../../../src/identity/ca_rollover.ts";
import { enrolDevice } from "../../../src/modes/enrol/enrol_device.ts";
import { listen, makeCa, makeTls, serve } from "../../io/controller/servers.ts";
import { EnrolmentGround } from "../../support/enrolment_ground.ts";
import { freePort } from "../../support/free_port.ts";

Deno.test("a device turns a token into an identity file that knows the network", () =>
  onGround(async ({ ground, path }) => {
    const identity = await enrolDevice({ token: await newToken(ground), path });
    assert.deepEqual(await loadIdentity(path), identity);
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
    assert.deepEqual(identity.trust.roots, ground.ca.roots());
    assert.deepEqual(identity.trust.authorities, [ground.ca.authority.publicJwk]);
    assert.deepEqual(identity.network!.controllers, ground.controllers);
    assert.deepEqual(identity.network!.relays, [{ name: "relay-1", address: "relay.example:4433" }]);
  }));

Deno.test("nobody in between learns the token, whatever certificates he shows", () =>
  onGround(async ({ ground, path }) => {
    const token = await newToken(ground);
    const { claims } = readEnrolmentToken(token, { now: Date.now() });
    const stranger = await makeCa("example.internal");
    for (const shown of [stranger.certificatePem, ground.ca.issuingCertificate]) {
      await using rogue = listen(await makeTls(stranger, { shown }));
      const led = await signEnrolmentToken(ground.ca.authority, { ...claims, ctl: [rogue.place] });
      await assert.rejects(() => enrolDevice({ token: led, path }), (error: Error & { code?: string }) => {
        assert.match(error.code!, /^ERR_CONTROLLER_(CA_MISMATCH|UNREACHABLE)$/);
        return true;
      });
      assert.deepEqual(rogue.heard, []);
    }
    await assertNothing(path);
    assert.equal((await ground.audit()).length, 0);
  }));

Deno.test("a token altered to lead a device elsewhere leads it to nobody who can answer", () =>
  onGround(async ({ ground, path }) => {
    await using other = await EnrolmentGround.open();
    await other.serve();
    const ours = readEnrolmentToken(await newToken(ground), { now: Date.now() }).claims;
    // The attacker runs a whole network of his own under the same name, and signs a token for it.
    const theirs = readEnrolmentToken(await newToken(other), { now: Date.now() }).claims;
    const mixed = await signEnrolmentToken(other.ca.authority, { ...theirs, ca: ours.ca });
    await assert.rejects(() => enrolDevice({ token: mixed, path }), { code: "ERR_CONTROLLER_CA_MISMATCH" });
    await assertNothing(path);
  }));

Deno.test("a device does not take an authority that did not sign its token, nor another's certificate", () =>
  onGround(async ({ ground, path }) => {
    await using other = await EnrolmentGround.open();
    const token = await newToken(ground);
    const { claims } = readEnrolmentToken(token, { now: Date.now() });
    const bob = await ground.service.enrol({
      token: await ground.token(await ground.addIdentity("bob")),
      csr: await ground.csr("bob"),
    }, { remote: "test" });
    assert.ok(bob.ok);
    const network = await ground.network();
    const good = { identity: claims.sub, certificate: bob.certificate, network };
    const answers: readonly (readonly [RegExp, unknown])[] = [
      [/ERR_IDENTITY_KEY_MISMATCH/, good],
      [/ERR_ENROLMENT_TOKEN_AUTHORITY/, { ...good, network: await other.network() }],
      [/ERR_NETWORK_DOCUMENT_MALFORMED/, { ...good, network: "x.y.z" }],
      [/ERR_CONTROLLER_ANSWER/, { certificate: bob.certificate }],
      [/ERR_CONTROLLER_ANSWER/, undefined],
    ];
    const own = await ground.ca.makeIdentity({ kind: "controller", name: "controller-1", life: 60_000 });
    const { certificate, privateKey } = JSON.parse(own.text);
    for (const [code, answer] of answers) {
      await using server = serve(
        { cert: certificate + ground.ca.issuingCertificate, key: privateKey },
        () => Response.json(answer ?? null),
      );
      const led = await signEnrolmentToken(ground.ca.authority, { ...claims, ctl: [server.place] });
      await assert.rejects(() => enrolDevice({ token: led, path }), (error: Error & { code?: string }) => {
        assert.match(error.code!, code, error.message);
        return true;
      });
      await assertNothing(path);
    }
  }));

Deno.test("a refusal is told in the controller's words and leaves no file, and no control characters", () =>
  onGround(async ({ ground, path }) => {
    const token = await newToken(ground);
    await enrolDevice({ token, path });
    await Deno.remove(path);
    await assert.rejects(() => enrolDevice({ token, path }), {
      code: "ERR_ENROLMENT_REFUSED",
      message: /The token was used already: ask the administrator for a new one/,
    });
    await assertNothing(path);
  }));

Deno.test("a token is not used up for a file that is there already or cannot be written", () =>
  onGround(async ({ ground, path }) => {
    const token = await newToken(ground);
    await Deno.writeTextFile(path, "precious");
    await assert.rejects(() => enrolDevice({ token, path }), { code: "ERR_IDENTITY_FILE_EXISTS" });
    assert.equal(await Deno.readTextFile(path), "precious");
    const nowhere = join(path, "nowhere.json");
    await assert.rejects(() => enrolDevice({ token, path: nowhere }), {
      code: "ERR_IDENTITY_FILE_UNWRITABLE",
    });
    const identity = await enrolDevice({ token, path, replace: true });
    assert.equal((await loadIdentity(path)).id.uri, identity.id.uri);
  }));

Deno.test("a replacement that fails leaves the old identity", () =>
  onGround(async ({ ground, path }) => {
    const id = await ground.addIdentity("alice");
    await enrolDevice({ token: await ground.token(id), path });
    const before = await Deno.readTextFile(path);
    const token = await ground.token(id);
    await ground.changeIdentity(id, { disabled: true });
    await assert.rejects(() => enrolDevice({ token, path, replace: true }), {
      code: "ERR_ENROLMENT_REFUSED",
    });
    assert.equal(await Deno.readTextFile(path), before);
  }));

Deno.test("enrolment fails clearly while the controller is away, works afterwards, and asks the next one", () =>
  onGround(async ({ ground, path }) => {
    const id = await ground.addIdentity("alice");
    const [running] = ground.controllers;
    const away = { name: "controller-1", url: `https://127.0.0.1:${freePort()}` };
    ground.controllers = [away];
    const lost = await ground.token(id);
    await assert.rejects(() => enrolDevice({ token: lost, path }), {
      code: "ERR_CONTROLLER_UNREACHABLE",
      message: /ECONNREFUSED/,
    });
    await assertNothing(path);
    ground.controllers = [away, running!];
    const identity = await enrolDevice({ token: await ground.token(id), path });
    assert.equal(identity.id.name, "alice");
  }));

Deno.test("a token made while the next CA was staged works after that CA began to issue", async () => {
  await using ground = await EnrolmentGround.open();
  const folder = await Deno.makeTempDir();
  const path = join(folder, "alice.json");
  try {
    const ca = join(ground.folder, "ca");
    const port = freePort();
    ground.controllers = [{ name: "controller-1", url: `https://127.0.0.1:${port}` }];
    await stageCa(ca, { now: Date.now(), days: 30 });
    await ground.ca.reload();
    const id = await ground.addIdentity("alice");
    const token = await ground.token(id);
    await activateCa(ca);
    await ground.ca.reload();
    await ground.serve(port);
    const identity = await enrolDevice({ token, path });
    assert.equal(identity.trust.roots.length, 2);
    const late = await ground.token(id);
    await retireCas(ca);
    await ground.ca.reload();
    assert.equal((await enrolDevice({ token: late, path, replace: true })).trust.roots.length, 1);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

async function newToken(ground: EnrolmentGround): Promise<string> {
  return await ground.token(await ground.addIdentity("alice"));
}

async function assertNothing(path: string): Promise<void> {
  await assert.rejects(() => Deno.lstat(path), Deno.errors.NotFound);
}

async function onGround(
  test: (parts: { readonly ground: EnrolmentGround; readonly path: string }) => Promise<void>,
): Promise<void> {
  await using ground = await EnrolmentGround.open();
  const folder = await Deno.makeTempDir();
  try {
    await ground.serve();
    await test({ ground, path: join(folder, "alice.json") });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
