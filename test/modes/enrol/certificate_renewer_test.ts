/** Renewal of a running node's certificate: over real HTTPS, in time, and whatever the controller does. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { createLogger, SILENT_LOGGER } from "../../../src/base/log.ts";
import { parseCertificatesPem } from "../../../src/identity/certificate.ts";
import { activateCa, caFingerprint, stageCa } from "../../../src/identity/ca_rollover.ts";
import { type Identity, loadIdentity } from "../../../src/identity/identity_file.ts";
import { CertificateRenewer } from "../../../src/modes/enrol/certificate_renewer.ts";
import { enrolDevice } from "../../../src/modes/enrol/enrol_device.ts";
import { renewalTime } from "../../../src/modes/enrol/renewal_time.ts";
import { eventually } from "../../support/eventually.ts";
import { EnrolmentGround } from "../../support/enrolment_ground.ts";

const DAY = 86_400_000;

Deno.test("a certificate is due at two thirds of its life, a little later for some, whatever it is dated back", () =>
  onGround(({ identity }) => {
    const issuedAt = identity.notAfter - 30 * DAY;
    for (const random of [0, 0.5, 0.999]) {
      const due = renewalTime(identity, random) - issuedAt;
      assert.ok(due >= 20 * DAY - 1_000 && due < 21.6 * DAY, String(due / DAY));
    }
  }));

Deno.test("a renewer replaces key and certificate in time, again and again", () =>
  onGround(async ({ ground, path, identity: first }) => {
    const node = new Node(first);
    await using _renewer = node.renew(path);
    await eventually(() => node.renewals >= 2);
    assert.equal(node.identity.id.uri, first.id.uri);
    assert.notEqual(node.identity.privateKeyPem, first.privateKeyPem);
    const stored = await loadIdentity(path);
    assert.equal(stored.certificatePem, node.identity.certificatePem);
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
    assert.deepEqual(await ground.store.revokedSerials(Date.now()), []);
  }, { life: 2_000 }));

Deno.test("a renewer asks again while the controller is away, and is done once it is back", () =>
  onGround(async ({ ground, path, identity, server }) => {
    await server.close();
    const lines: string[] = [];
    const node = new Node(identity);
    await using _renewer = node.renew(path, {
      due: true,
      logger: createLogger({ write: (l) => lines.push(l) }),
    });
    await eventually(() => lines.some((line) => line.includes("certificate_not_renewed")));
    assert.match(lines.join(""), /ERR_CONTROLLER_UNREACHABLE/);
    assert.ok(!lines.join("").includes("PRIVATE KEY"));
    assert.equal((await loadIdentity(path)).certificatePem, identity.certificatePem);
    await ground.serve(server.port);
    await eventually(() => node.renewals === 1);
  }));

Deno.test("a renewer that is too late says that the certificate is over, and what to do", () =>
  onGround(async ({ path, identity, server }) => {
    await server.close();
    const lines: string[] = [];
    await using _renewer = new Node(identity).renew(path, {
      now: () => identity.notAfter + 1,
      logger: createLogger({ write: (line) => lines.push(line) }),
    });
    const line = await eventually(() => lines.find((line) => line.includes("certificate_expired")));
    const { level, since, hint } = JSON.parse(line);
    assert.deepEqual([level, since], ["error", new Date(identity.notAfter).toISOString()]);
    assert.match(hint, /ginnel enroll --replace/);
  }));

Deno.test("a refused renewal leaves the file as it is", () =>
  onGround(async ({ ground, path, identity }) => {
    const { id } = (await ground.store.find("identity", identity.id.uri))!;
    await ground.changeIdentity(id, { disabled: true });
    const before = await Deno.readTextFile(path);
    const lines: string[] = [];
    const node = new Node(identity);
    await using _renewer = node.renew(path, {
      due: true,
      logger: createLogger({ write: (l) => lines.push(l) }),
    });
    await eventually(() => lines.some((line) => line.includes("The identity is disabled")));
    assert.equal(await Deno.readTextFile(path), before);
    assert.equal(node.renewals, 0);
  }));

Deno.test("what is not the identity's own certificate is not written", () =>
  onGround(async ({ ground, path, identity }) => {
    const before = await Deno.readTextFile(path);
    const other = await ground.ca.makeIdentity({ kind: "agent", name: "mallory", life: DAY });
    await using foreign = await EnrolmentGround.open();
    const network = await ground.network();
    const answers = [
      { certificate: JSON.parse(other.text).certificate, network },
      { certificate: identity.certificatePem, network },
      { certificate: "", network },
      { certificate: identity.certificatePem, network: await foreign.network() },
    ];
    for (const answer of answers) {
      const lines: string[] = [];
      const node = new Node(identity);
      await using _renewer = node.renew(path, {
        due: true,
        logger: createLogger({ write: (line) => lines.push(line) }),
        request: () => Promise.resolve({ identity: identity.id.uri, ...answer }),
      });
      await eventually(() => lines.some((line) => line.includes("certificate_not_renewed")));
      assert.equal(node.renewals, 0);
      assert.equal(await Deno.readTextFile(path), before);
    }
  }));

Deno.test("a renewer gets a certificate of the new CA soon after trust says that it issues, and only one", () =>
  onGround(async ({ ground, path, identity }) => {
    const node = new Node(identity);
    const directory = join(ground.folder, "ca");
    await stageCa(directory, { now: Date.now(), days: 30 });
    await ground.ca.reload();
    await using renewer = node.renew(path);
    node.identity = withRoots(identity, ground.ca.roots());
    renewer.check();
    await activateCa(directory);
    await ground.ca.reload();
    // A staged CA is no reason to renew; one that issues is.
    assert.equal(node.renewals, 0);
    node.identity = withRoots(identity, ground.ca.roots());
    renewer.check();
    await eventually(() => node.renewals === 1);
    const leaf = parseCertificatesPem(node.identity.certificatePem)[0]!;
    const root = parseCertificatesPem(ground.ca.issuingCertificate)[0]!;
    assert.ok(leaf.platform.verify(root.platform.publicKey));
    assert.deepEqual(
      (await loadIdentity(path)).trust.roots.map(caFingerprint),
      ground.ca.roots().map(caFingerprint),
    );
    for (let look = 0; look < 5; look++) {
      renewer.check();
      await ground.network();
    }
    assert.equal(node.renewals, 1);
  }));

Deno.test("controllers that do not agree who issues do not keep a node renewing", () =>
  onGround(async ({ ground, path, identity }) => {
    const directory = join(ground.folder, "ca");
    await stageCa(directory, { now: Date.now(), days: 30 });
    await ground.ca.reload();
    const [issuing, staged] = ground.ca.roots();
    const network = await ground.network();
    const node = new Node(withRoots(identity, [staged!, issuing!]));
    let asked = 0;
    await using renewer = node.renew(path, {
      request: async (csr) => {
        asked++;
        const result = await ground.service.renew(
          { id: identity.id, certificateSerial: parseCertificatesPem(identity.certificatePem)[0]!.serial },
          { csr },
          { remote: "test" },
        );
        assert.ok(result.ok);
        return { ...result, network };
      },
    });
    await eventually(() => node.renewals === 1);
    node.identity = withRoots(node.identity, [staged!, issuing!]);
    for (let look = 0; look < 5; look++) {
      renewer.check();
      await ground.network();
    }
    assert.equal(asked, 1);
  }));

Deno.test("a renewer of an identity without controllers waits, and one that is closed stops asking", () =>
  onGround(async ({ path, identity }) => {
    let asked = 0;
    const node = new Node({ ...identity, network: undefined });
    const idle = node.renew(path, { due: true });
    idle.check();
    await idle[Symbol.asyncDispose]();
    const asking = Promise.withResolvers<void>();
    const renewer = node.renew(path, {
      due: true,
      request: (_csr, signal) => {
        asked++;
        asking.resolve();
        return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      },
    });
    await asking.promise;
    await renewer[Symbol.asyncDispose]();
    assert.equal(asked, 1);
    assert.equal(node.renewals, 0);
  }));

/** A node that takes up what its renewer gets. */
class Node {
  identity: Identity;
  renewals = 0;

  constructor(identity: Identity) {
    this.identity = identity;
  }

  renew(
    path: string,
    options: Partial<ConstructorParameters<typeof CertificateRenewer>[0]> & { readonly due?: boolean } = {},
  ): CertificateRenewer {
    const { due = false, ...rest } = options;
    // Until the first renewal the clock says that it is time.
    const now = () => Date.now() + (due && this.renewals === 0 ? 22 * DAY : 0);
    return new CertificateRenewer({
      path,
      identity: () => this.identity,
      logger: SILENT_LOGGER,
      random: () => 0,
      now,
      onRenewed: (identity) => {
        this.identity = identity;
        this.renewals++;
      },
      ...rest,
    });
  }
}

function withRoots(identity: Identity, roots: readonly string[]): Identity {
  return { ...identity, trust: { ...identity.trust, roots } };
}

async function onGround(
  test: (parts: {
    readonly ground: EnrolmentGround;
    readonly path: string;
    readonly identity: Identity;
    readonly server: Awaited<ReturnType<EnrolmentGround["serve"]>>;
  }) => void | Promise<void>,
  options: { readonly life?: number } = {},
): Promise<void> {
  await using ground = await EnrolmentGround.open();
  const folder = await Deno.makeTempDir();
  try {
    const server = await ground.serve();
    ground.life.node = options.life ?? ground.life.node;
    const path = join(folder, "alice.json");
    const token = await ground.token(await ground.addIdentity("alice"));
    await test({ ground, path, server, identity: await enrolDevice({ token, path }) });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
