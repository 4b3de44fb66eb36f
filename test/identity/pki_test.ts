/** What the CA issues: read back by other software, and used in real TLS and QUIC handshakes. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { Duplex } from "node:stream";
import tls from "node:tls";
import { parseCertificatesPem } from "../../src/identity/certificate.ts";
import { verifyChain } from "../../src/identity/chain.ts";
import { createCa, issueCertificate, parseCa } from "../../src/identity/pki.ts";
import { createTestNetwork, DOMAIN, generateKeys, NOW, rejectsWith } from "./forge.ts";

const DAY = 86_400_000;
const CA = await createCa({ trustDomain: DOMAIN, now: NOW, days: 30 });

Deno.test("createCa() makes a CA that can sign and carries its trust domain", () => {
  const certificate = parseCertificatesPem(CA.certificatePem)[0]!;
  assert.equal(certificate.isCa, true);
  assert.equal(certificate.pathLength, 1);
  assert.deepEqual(certificate.uriNames, [`spiffe://${DOMAIN}`]);
  assert.equal(certificate.notAfter, NOW + 30 * DAY);
  assert.equal(certificate.platform.verify(certificate.platform.publicKey), true);
});

Deno.test("issueCertificate() makes certificates that other software reads the same way", async () => {
  const issued = await issueCertificate(CA, { kind: "relay", name: "relay-1", now: NOW, days: 1 });
  const leaf = new X509Certificate(issued.certificatePem);
  const root = new X509Certificate(CA.certificatePem);
  assert.equal(leaf.checkIssued(root), true);
  assert.equal(leaf.verify(root.publicKey), true);
  assert.equal(leaf.ca, false);
  assert.equal(
    leaf.subjectAltName,
    `URI:spiffe://${DOMAIN}/relay/relay-1, DNS:relay-1.relay.ginnel.internal`,
  );
  assert.equal(new Date(leaf.validTo).getTime(), issued.notAfter);
});

Deno.test("issueCertificate() gives a DNS name to relays only", async () => {
  for (const kind of ["connector", "agent", "user"] as const) {
    const { certificatePem } = await issueCertificate(CA, { kind, name: "a", now: NOW, days: 1 });
    assert.equal(new X509Certificate(certificatePem).subjectAltName, `URI:spiffe://${DOMAIN}/${kind}/a`);
  }
});

Deno.test("issueCertificate() gives further names to controllers only, and none of the network's own", async () => {
  const options = { kind: "controller", name: "controller-1", now: NOW, days: 1 } as const;
  const names = ["controller.example", "10.0.0.5", "2001:db8::5"];
  const { certificatePem, serial } = await issueCertificate(CA, { ...options, names });
  const certificate = new X509Certificate(certificatePem);
  for (const name of names) assert.ok(certificate.checkHost(name) ?? certificate.checkIP(name), name);
  assert.equal(
    certificate.checkHost("controller-1.controller.ginnel.internal"),
    "controller-1.controller.ginnel.internal",
  );
  assert.equal(serial, certificate.serialNumber);
  for (const name of ["relay-1.relay.ginnel.internal", "Relay-1.Relay.GINNEL.internal", "ginnel.internal"]) {
    await assert.rejects(() => issueCertificate(CA, { ...options, names: [name] }), RangeError, name);
  }
  await assert.rejects(() => issueCertificate(CA, { ...options, kind: "relay", names }), RangeError);
});

Deno.test("issueCertificate() certifies a key that never left its owner", async () => {
  const { publicKey } = await generateKeys();
  const issued = await issueCertificate(CA, { kind: "agent", name: "a", now: NOW, days: 1, publicKey });
  assert.equal(issued.privateKeyPem, undefined);
  const chain = await verifyChain({ chain: issued.certificatePem, roots: [CA.certificatePem], now: NOW });
  const exportSpki = async (key: CryptoKey) => new Uint8Array(await crypto.subtle.exportKey("spki", key));
  assert.deepEqual(await exportSpki(chain.publicKey), await exportSpki(publicKey));
});

Deno.test("issueCertificate() gives every certificate its own positive serial number", async () => {
  const serials = new Set<string>();
  for (let index = 0; index < 20; index++) {
    const { certificatePem } = await issueCertificate(CA, { kind: "agent", name: "a", now: NOW, days: 1 });
    const serial = parseCertificatesPem(certificatePem)[0]!.serial;
    assert.match(serial, /^[4-7][0-9A-F]{31}$/);
    serials.add(serial);
  }
  assert.equal(serials.size, 20);
});

Deno.test("issueCertificate() refuses to outlive its CA, a life of nothing, and wrong names", async () => {
  const good = { kind: "agent" as const, name: "a", now: NOW, days: 1 };
  await rejectsWith("ERR_CA_LIFETIME", () => issueCertificate(CA, { ...good, days: 31 }));
  for (const days of [0, -1, NaN, Infinity, 40_000]) {
    await assert.rejects(() => issueCertificate(CA, { ...good, days }), RangeError, String(days));
  }
  await rejectsWith("ERR_SPIFFE_ID_INVALID", () => issueCertificate(CA, { ...good, name: "../root" }));
  await rejectsWith(
    "ERR_SPIFFE_ID_INVALID",
    () => issueCertificate(CA, { ...good, kind: "relay", name: "Relay" }),
  );
});

Deno.test("createCa() dates certificates beyond 2050 correctly [RFC5280-4.1.2.5]", async () => {
  const ca = await createCa({ trustDomain: DOMAIN, now: NOW, days: 36_500 });
  assert.equal(new Date(ca.notAfter).getUTCFullYear(), 2129);
  assert.equal(new Date(new X509Certificate(ca.certificatePem).validTo).getTime(), ca.notAfter);
});

Deno.test("parseCa() reads a CA back and refuses another CA's key, a leaf, and nonsense", async () => {
  assert.equal((await parseCa(CA)).trustDomain, DOMAIN);
  const other = await createCa({ trustDomain: DOMAIN, now: NOW, days: 1 });
  await rejectsWith(
    "ERR_IDENTITY_KEY_MISMATCH",
    () => parseCa({ ...CA, privateKeyPem: other.privateKeyPem }),
  );
  const leaf = await issueCertificate(CA, { kind: "agent", name: "a", now: NOW, days: 1 });
  const { certificatePem, privateKeyPem } = leaf;
  await rejectsWith(
    "ERR_IDENTITY_FILE_CORRUPT",
    () => parseCa({ certificatePem, privateKeyPem: privateKeyPem! }),
  );
  await rejectsWith("ERR_CERT_MALFORMED", () => parseCa({ ...CA, certificatePem: "hello" }));
});

Deno.test("SPIFFE certificates with a URI name only do mutual TLS 1.3 over a Duplex", async () => {
  const { connector, agent } = await liveIdentities();
  const [near, far] = duplexPair();
  const credentials = (identity: typeof agent) => ({
    cert: identity.certificatePem,
    key: identity.privateKeyPem,
    ca: [...identity.trust.roots],
    minVersion: "TLSv1.3" as const,
  });
  const server = tls.createServer({ ...credentials(connector), requestCert: true, rejectUnauthorized: true });
  server.emit("connection", far);
  const client = tls.connect({
    ...credentials(agent),
    socket: near,
    servername: "c1.connector.ginnel.internal",
    checkServerIdentity: () => undefined,
  });
  const [[accepted]] = await Promise.all([once(server, "secureConnection"), once(client, "secureConnect")]);
  assert.equal(accepted.authorized, true);
  assert.equal(accepted.getPeerCertificate().subjectaltname, `URI:${agent.id.uri}`);
  assert.equal(client.authorized, true);
  assert.equal(client.getPeerCertificate().subjectaltname, `URI:${connector.id.uri}`);
  const clientClosed = once(client, "close");
  accepted.write("hello");
  const [hello] = await once(client, "data");
  assert.equal(Buffer.from(hello).toString(), "hello");
  client.destroy();
  accepted.destroy();
  await clientClosed;
});

Deno.test("a relay's certificate serves TLS under its own name and no other", async () => {
  const { relay } = await liveIdentities();
  const [caCert] = relay.trust.roots;
  const dial = async (hostname: string) => {
    using listener = Deno.listenTls({
      hostname: "127.0.0.1",
      port: 0,
      cert: relay.certificatePem,
      key: relay.privateKeyPem,
    });
    const accept = listener.accept().then(async (connection) => {
      await connection.handshake().finally(() => connection.close());
    });
    const tcp = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
    const connection = await Deno.startTls(tcp, { hostname, caCerts: [caCert!] });
    const outcomes = await Promise.allSettled([connection.handshake(), accept]);
    connection.close();
    return outcomes[0].status;
  };
  assert.equal(await dial("relay-1.relay.ginnel.internal"), "fulfilled");
  assert.equal(await dial("relay-2.relay.ginnel.internal"), "rejected");
});

/** Identities valid at the real time, which TLS stacks go by. */
async function liveIdentities() {
  const network = await createTestNetwork(DOMAIN, Date.now());
  return {
    relay: await network.identity("relay", "relay-1"),
    connector: await network.identity("connector", "c1"),
    agent: await network.identity("agent", "alice"),
  };
}

/** Two ends of one byte stream. */
function duplexPair(): [Duplex, Duplex] {
  const ends: Duplex[] = [0, 1].map((index) =>
    new Duplex({
      read() {},
      write(chunk, _encoding, done) {
        ends[1 - index]!.push(chunk);
        done();
      },
      final(done) {
        ends[1 - index]!.push(null);
        done();
      },
    })
  );
  return [ends[0]!, ends[1]!];
}
