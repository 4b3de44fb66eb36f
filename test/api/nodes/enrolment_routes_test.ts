/** `/enrolment/v1` over real HTTPS: who may call what, what is too much, and how refusals read. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { makeCsr } from "../../../src/identity/csr.ts";
import { generateKeyPair } from "../../../src/identity/key_pair.ts";
import { type Identity, loadIdentity } from "../../../src/identity/identity_file.ts";
import { parseCertificatesPem } from "../../../src/identity/certificate.ts";
import { introduceNetworkDocument } from "../../../src/identity/network_document.ts";
import { createProof } from "../../../src/identity/proof.ts";
import { serverName } from "../../../src/identity/spiffe_id.ts";
import { ControllerHttp } from "../../../src/io/controller/https_client.ts";
import { controllerClient } from "../../../src/modes/enrol/controller_client.ts";
import { enrolDevice } from "../../../src/modes/enrol/enrol_device.ts";
import { DOMAIN, EnrolmentGround } from "../../support/enrolment_ground.ts";

const ALICE = `spiffe://${DOMAIN}/agent/alice`;

Deno.test("whoever shows no proof gets neither a renewal nor the network document", () =>
  onGround(async ({ ground, identity }) => {
    const csr = await ground.csr("alice");
    const network = { method: "GET", path: "/enrolment/v1/network" } as const;
    const renewal = { method: "POST", path: "/enrolment/v1/renew", json: { csr } } as const;
    const proof = await createProof({
      identity,
      audience: serverName("controller", "controller-1"),
      now: Date.now(),
    });
    const elsewhere = await createProof({ identity, audience: "relay-1", now: Date.now() });
    const atNamesake = await createProof({ identity, audience: "controller-1", now: Date.now() });
    const headers = [
      {},
      { "x-forwarded-client-cert": ALICE, "x-identity": ALICE },
      { authorization: "Bearer " },
      { authorization: `Basic ${proof}` },
      { authorization: `Bearer ${proof.slice(0, -4)}AAAA` },
      { authorization: `Bearer ${elsewhere}` },
      // A relay may have the controller's name; what it is shown is of no use here.
      { authorization: `Bearer ${atNamesake}` },
    ];
    using stranger = clientOf(ground);
    for (const given of headers) {
      for (const request of [network, renewal]) {
        const { status, json } = await stranger.request({ ...request, headers: given });
        assert.equal(status, 401, JSON.stringify(given).slice(0, 80));
        assert.equal((json as { type: string }).type, "urn:ginnel:problem:unauthenticated");
      }
    }
    assert.equal(
      (await ground.store.certificates((await ground.store.find("identity", ALICE))!.id)).length,
      1,
    );
  }));

Deno.test("a proof works once, and renews the identity that it proves and no other", () =>
  onGround(async ({ ground, identity }) => {
    await ground.addIdentity("bob");
    const proof = await createProof({
      identity,
      audience: serverName("controller", "controller-1"),
      now: Date.now(),
    });
    using client = clientOf(ground, () => Promise.resolve(proof));
    const renew = async (name: string) => {
      const csr = await makeCsr(await generateKeyPair(), `spiffe://${DOMAIN}/agent/${name}`);
      return await client.request({ method: "POST", path: "/enrolment/v1/renew", json: { csr } });
    };
    const other = await renew("bob");
    assert.equal(other.status, 400);
    assert.deepEqual((other.json as { errors: unknown }).errors, [{ field: "reason", message: "csr" }]);
    assert.equal((await renew("alice")).status, 401, "a proof was taken twice");
    using honest = controllerClient(() => identity);
    const csr = await ground.csr("alice");
    const { status, json } = await honest.request({
      method: "POST",
      path: "/enrolment/v1/renew",
      json: { csr },
    });
    assert.equal(status, 200);
    const answer = json as { identity: string; certificate: string; notAfter: number; network: string };
    assert.deepEqual(Object.keys(answer).sort(), ["certificate", "identity", "network", "notAfter"]);
    assert.equal(answer.identity, ALICE);
    assert.equal(parseCertificatesPem(answer.certificate)[0]!.notAfter, answer.notAfter);
  }));

Deno.test("bodies that are too large, not JSON, or of another shape are refused before anything is looked at", () =>
  onGround(async ({ ground }) => {
    using client = clientOf(ground);
    const csr = await ground.csr("bob");
    const token = await ground.token(await ground.addIdentity("bob"));
    const path = "/enrolment/v1/enrol";
    const post = async (json: unknown) => (await client.request({ method: "POST", path, json })).status;
    assert.equal(await post({ token, csr: "x".repeat(100_000) }), 413);
    for (
      const body of [
        {},
        { token },
        { token, csr: 7 },
        { token: [token], csr },
        { token, csr, days: 36_500 },
        { token, csr: "x".repeat(9_000) },
        { token: "x".repeat(9_000), csr },
        "text",
        null,
      ]
    ) {
      assert.equal(await post(body), 400, JSON.stringify(body).slice(0, 60));
    }
    assert.equal(await post({ token, csr }), 200);
    assert.equal(await post({ token, csr }), 401);
  }));

Deno.test("anybody may read the CAs; they are believed only by their fingerprints", () =>
  onGround(async ({ ground, identity }) => {
    using client = clientOf(ground);
    const { status, json } = await client.request({ method: "GET", path: "/enrolment/v1/ca" });
    assert.deepEqual([status, json], [200, { roots: ground.ca.roots() }]);
    using honest = controllerClient(() => identity);
    const answer = await honest.request({ method: "GET", path: "/enrolment/v1/network" });
    const { network } = answer.json as { network: string };
    const document = await introduceNetworkDocument(network, { trustDomain: DOMAIN });
    assert.deepEqual(document.controllers, ground.controllers);
  }));

function clientOf(ground: EnrolmentGround, authorization?: () => Promise<string>): ControllerHttp {
  return new ControllerHttp({
    controllers: () => ground.controllers,
    roots: () => ground.ca.roots(),
    ...(authorization === undefined ? {} : { authorization }),
  });
}

async function onGround(
  test: (parts: { readonly ground: EnrolmentGround; readonly identity: Identity }) => Promise<void>,
): Promise<void> {
  await using ground = await EnrolmentGround.open();
  const folder = await Deno.makeTempDir();
  try {
    await ground.serve();
    const path = join(folder, "alice.json");
    await enrolDevice({ token: await ground.token(await ground.addIdentity("alice")), path });
    await test({ ground, identity: await loadIdentity(path) });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
