/**
 * Who gets past a relay's door, over real QUIC and TLS: a valid, fresh proof for this very relay and nothing
 * else; and what an admitted identity is told when it asks for what is not its own.
 */

import assert from "node:assert/strict";
import { openCaDirectory } from "../../src/identity/ca_directory.ts";
import { type Identity, loadIdentity, parseIdentity } from "../../src/identity/identity_file.ts";
import { issueIdentity } from "../../src/identity/issue_identity.ts";
import { readMessages } from "../../src/modes/shared/message_channel.ts";
import { encodeMessage } from "../../src/wire/control/framing.ts";
import { type ControlMessage, controlMessageSchema } from "../../src/wire/control/messages.ts";
import { CONNECTOR_PATH, ipPath, VIEW_PATH } from "../../src/wire/masque/uri.ts";
import { eventually } from "../support/eventually.ts";
import { type AuditLine, Network, type RelayNode } from "../support/network.ts";
import { type Answer, RelayCaller } from "../support/relay_caller.ts";

const DAY = 86_400_000;
const INSTANCE = "00000000-0000-4000-8000-000000000001";

/** Alice may dial `web`; connector-1 may bind `web` and `hidden`, which nobody may dial. */
const POLICY = {
  services: [{ name: "web" }, { name: "hidden" }],
  servicePolicies: [
    { name: "dial", type: "Dial", identityRoles: ["@agent/alice"], serviceRoles: ["@web"] },
    { name: "bind", type: "Bind", identityRoles: ["@connector-1"], serviceRoles: ["@web", "@hidden"] },
  ],
};

for (const carrier of ["quic", "tls"] as const) {
  Deno.test(`${carrier}: without a proof there is 401 that says how to authenticate, then the door shuts [RFC9110-15.5.2]`, async () => {
    await using door = await openDoor({ unauthenticatedTimeout: "300ms" });
    const connection = await door.caller.dial(carrier);
    const started = performance.now();
    const answer = await connection.view();
    assert.equal(answer.status, 401);
    assert.equal(answer.headers.get("www-authenticate"), "Bearer");
    assert.match(answer.headers.get("proxy-status") ?? "", /^relay-1; error=http_request_denied/);
    assert.equal(await answer.body.read(), null);
    // A TLS carrier ends with its one request; a QUIC connection stays for better ones until its time is over.
    if (carrier === "tls") return;
    await connection.carrier.closed;
    assert.ok(performance.now() - started >= 250, "closed before its time");
  });

  Deno.test(`${carrier}: no proof but a good one is accepted, and the audit says what was wrong`, async () => {
    await using door = await openDoor();
    const bad = await badProofs(door);
    for (const [code, proof] of bad) {
      const connection = await door.caller.dial(carrier);
      const answer = await connection.view(proof);
      assert.equal(answer.status, 401, code);
      assert.deepEqual(
        answer.headers.get("proxy-status"),
        'relay-1; error=http_request_denied; details="proof of identity refused"',
        "a stranger learns nothing of the reason",
      );
      await connection.carrier.close(0x100, "");
    }
    const lines = await eventually(async () => {
      const lines = await door.relay.audit();
      return lines.length >= bad.length && lines;
    });
    assert.deepEqual(
      lines.map(({ event, who, outcome, reason }) => [event, who, outcome, reason]),
      bad.map(([code]) => ["deny", "unauthenticated", "401", code]),
    );
    const good = await door.caller.dial(carrier);
    assert.equal((await good.view(await door.caller.proof(door.alice))).status, 200);
  });
}

Deno.test("a connection that asks nothing is closed when its time is over, on either carrier", async () => {
  await using door = await openDoor({ unauthenticatedTimeout: "300ms" });
  const { carrier } = await door.caller.dial();
  await carrier.closed;
  for (const saysHello of [true, false]) {
    const tcp = await Deno.connect({ hostname: "127.0.0.1", port: door.relay.port });
    using conn = saysHello ? await door.caller.startTls(tcp) : tcp;
    // A farewell may come first.
    while (await conn.read(new Uint8Array(64)).catch(() => null) !== null);
  }
});

Deno.test("a proof works once: neither again, nor on another connection, nor on two at the same time", async () => {
  await using door = await openDoor();
  const used = await door.caller.proof(door.alice);
  assert.equal((await (await door.caller.dial()).view(used)).status, 200);
  assert.equal((await (await door.caller.dial()).view(used)).status, 401, "a second connection");
  assert.equal((await (await door.caller.dial("tls")).view(used)).status, 401, "the other carrier");

  const raced = await door.caller.proof(door.alice);
  const connections = await Promise.all(
    Array.from({ length: 6 }, (_, i) => door.caller.dial(i % 2 === 0 ? "quic" : "tls")),
  );
  const answers = await Promise.all(connections.map((connection) => connection.view(raced)));
  assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 401, 401, 401, 401, 401]);
});

Deno.test("a refused proof may be followed by a good one, and the identity of a connection never changes", async () => {
  await using door = await openDoor();
  const connection = await door.caller.dial();
  assert.equal((await connection.view("not.a.proof")).status, 401);
  assert.equal((await connection.flow("web")).status, 401, "still nobody");
  assert.equal((await connection.view(await door.caller.proof(door.alice))).status, 200);
  // Bob's proof on Alice's connection: he does not take it over, and her rights do not become his.
  const bob = await loadIdentity(await door.network.issue("agent", "bob"));
  const late = await connection.flow("web", { proof: await door.caller.proof(bob) });
  assert.equal(late.status, 401, "a proof of somebody else");
  const hers = await connection.flow("web");
  assert.equal(hers.status, 503, "Alice may dial web, which nobody offers now");
  const line = await door.audited(({ outcome }) => outcome === "503");
  assert.match(line.who, /\/agent\/alice$/);
});

Deno.test("an identity without rights is admitted, sees nothing, and cannot tell forbidden from unknown", async () => {
  await using door = await openDoor();
  await using upstream = new CountingUpstream();
  await door.network.connector({
    relays: [door.relay],
    services: { web: upstream.url, hidden: upstream.url },
  });
  const bob = await loadIdentity(await door.network.issue("agent", "bob"));
  const connection = await door.caller.admitted(bob);
  for (const form of ["sealed", "capsules", "classic"] as const) {
    const answers = await Promise.all(
      ["web", "hidden", "no-such-service", "web.ginnel.internal", "127.0.0.1", "example.com"]
        .map((service) => connection.flow(service, { form })),
    );
    for (const answer of answers) {
      assert.equal(answer.status, 403, form);
      assert.deepEqual(visible(answer), visible(answers[0]!), form);
    }
  }
  const sessions = await Promise.all(["connector-1", "no-such-connector"].map((n) => connection.session(n)));
  assert.deepEqual(sessions.map((answer) => answer.status), [403, 403]);
  assert.deepEqual(visible(sessions[0]!), visible(sessions[1]!));
  assert.equal(upstream.connections, 0);
  await door.audited(({ event, who, reason }) =>
    event === "deny" && who.endsWith("/agent/bob") && reason === "no_matching_policy"
  );
});

Deno.test("a method that a resource does not take is answered with those it takes [RFC9110-15.5.6]", async () => {
  await using door = await openDoor();
  const connection = await door.caller.admitted(door.alice);
  const ask = async (method: string, path: string) => {
    const { status, headers } = await connection.request({ method, scheme: "https", path }, { end: true });
    return [status, headers.get("allow")];
  };
  assert.deepEqual(await ask("POST", VIEW_PATH), [405, "GET"]);
  for (const method of ["GET", "POST"]) {
    assert.deepEqual(await ask(method, ipPath({ target: "*", ipproto: "*" })), [405, "CONNECT"]);
    assert.deepEqual(await ask(method, CONNECTOR_PATH), [405, "CONNECT"]);
  }
  assert.deepEqual(await ask("GET", "/"), [404, undefined]);
});

Deno.test("what a service demands, a right to dial it does not waive: sealed only means sealed only", async () => {
  await using door = await openDoor();
  await using upstream = new CountingUpstream();
  await door.network.connector({ relays: [door.relay], services: { web: upstream.url } });
  const connection = await door.caller.admitted(door.alice);
  for (const form of ["capsules", "classic"] as const) {
    assert.equal((await connection.flow("web", { form })).status, 403, form);
  }
  assert.equal(upstream.connections, 0);
  const sealed = await connection.flow("web");
  assert.equal(sealed.status, 200, "the connector is there for a sealed flow");
  sealed.body.abort();
});

Deno.test("only connectors get the connector's paths, and only their own services", async () => {
  await using door = await openDoor();
  for (const kind of ["agent", "user", "relay"] as const) {
    const identity = await loadIdentity(await door.network.issue(kind, `pose-${kind}`));
    const connection = await door.caller.admitted(identity);
    await assert.rejects(connection.connectorSession(INSTANCE), /status 403/, kind);
    assert.equal((await connection.park(INSTANCE)).status, 403, kind);
  }
  const connector = await loadIdentity(await door.network.issue("connector", "connector-2"));
  const connection = await door.caller.admitted(connector);
  assert.equal((await connection.park(INSTANCE)).status, 403, "no session to park for");
  await assert.rejects(connection.connectorSession("not an instance"), /status 403/);
  const session = await connection.connectorSession(INSTANCE);
  const control = await session.openStream();
  const services = ["web", "hidden", "no-such-service"];
  await control.write(encodeMessage({
    type: "bind",
    services: services.map((name) => ({ name, protocol: "tcp", healthy: true })),
  }));
  const answers: ControlMessage[] = [];
  for await (const message of readMessages(control, controlMessageSchema)) {
    answers.push(message);
    if (answers.length === services.length) break;
  }
  assert.deepEqual(
    answers.map((message) => message.type === "bound" && [message.service, message.ok]),
    services.map((service) => [service, false]),
  );
  // Another connector's certificate does not help with this one's instance either.
  const other = await loadIdentity(await door.network.issue("connector", "connector-3"));
  const rival = await door.caller.admitted(other);
  assert.equal((await rival.park(INSTANCE)).status, 403);
  const alice = await door.caller.admitted(door.alice);
  assert.equal((await alice.flow("web")).status, 503, "nobody offers web");
});

Deno.test("relays and connectors are never callers, whatever the policy says of #all", async () => {
  const all = { identityRoles: ["#all"], serviceRoles: ["#all"], semantic: "AnyOf" };
  await using door = await openDoor({}, {
    services: [{ name: "web", endToEnd: "optional" }],
    servicePolicies: [{ name: "d", type: "Dial", ...all }, { name: "b", type: "Bind", ...all }],
  });
  await using upstream = new CountingUpstream();
  await door.network.connector({ relays: [door.relay], services: { web: upstream.url } });
  const relay2 = await loadIdentity(await door.network.issue("relay", "relay-2"));
  const connection = await door.caller.admitted(relay2);
  for (const form of ["sealed", "capsules", "classic"] as const) {
    assert.equal((await connection.flow("web", { form })).status, 403, form);
  }
  assert.equal((await connection.session("connector-1")).status, 403);
  assert.equal(upstream.connections, 0);
});

Deno.test("[RFC9114-4.1] methods, paths and protocols that are not ours are refused only after the proof", async () => {
  await using door = await openDoor();
  const strange = [
    [405, { method: "POST", scheme: "https", path: "/" }],
    [404, { method: "GET", scheme: "https", path: "/" }],
    [404, { method: "CONNECT", protocol: "webtransport", scheme: "https", path: "/elsewhere" }],
    [404, { method: "CONNECT", protocol: "connect-tcp", scheme: "https", path: CONNECTOR_PATH }],
    [501, { method: "CONNECT", protocol: "no-such-protocol", scheme: "https", path: "/" }],
  ] as const;
  const stranger = await door.caller.dial();
  for (const [, request] of strange) assert.equal((await stranger.request(request)).status, 401);
  const alice = await door.caller.admitted(door.alice);
  for (const [status, request] of strange) assert.equal((await alice.request(request)).status, status);
});

/** Every way for a proof to be bad that a stranger can bring about, with the code the audit gives it. */
async function badProofs(door: Door): Promise<[code: string, proof: string][]> {
  const { caller, alice, network } = door;
  await using stranger = await Network.create();
  const { ca, authority } = await openCaDirectory(`${network.folder}/ca`);
  const past = Date.now() - DAY - 1_000;
  const { text } = await issueIdentity(ca, {
    kind: "agent",
    name: "alice",
    now: past,
    days: 1,
    authorities: [authority],
  });
  const expired = await parseIdentity(text, { source: "test", now: past + DAY - 1_000 });
  const bob = await loadIdentity(await network.issue("agent", "bob"));
  const good = await caller.proof(alice);
  const [header, claims, signature] = good.split(".");
  const [, bobsClaims] = (await caller.proof(bob)).split(".");
  const forged = await loadIdentity(await stranger.issue("agent", "alice"));
  return [
    ["ERR_PROOF_MALFORMED", "no-token"],
    ["ERR_PROOF_ALGORITHM", "e30.e30.e30"],
    ["ERR_PROOF_TOO_LARGE", "a".repeat(9_000)],
    ["ERR_PROOF_SIGNATURE", `${header}.${bobsClaims}.${signature}`],
    ["ERR_PROOF_SIGNATURE", `${header}.${claims}.${"A".repeat(86)}`],
    ["ERR_SUBJECT_MISMATCH", await caller.proof({ ...alice, id: bob.id })],
    ["ERR_PROOF_AUDIENCE", await caller.proof(alice, { audience: "relay-2" })],
    ["ERR_PROOF_EXPIRED", await caller.proof(alice, { now: Date.now() - 120_000 })],
    ["ERR_PROOF_NOT_YET_VALID", await caller.proof(alice, { now: Date.now() + 120_000 })],
    // A CA of the same name and trust domain, but not ours.
    ["ERR_CERT_SIGNATURE", await caller.proof(forged)],
    ["ERR_CERT_EXPIRED", await caller.proof(expired)],
  ];
}

/** What a caller can see of an answer. */
function visible({ status, headers }: Answer): unknown {
  return [status, [...headers]];
}

/** A relay, somebody who calls it, and Alice. */
interface Door extends AsyncDisposable {
  readonly network: Network;
  readonly relay: RelayNode;
  readonly caller: RelayCaller;
  readonly alice: Identity;
  /** Waits for an audit line. */
  audited(is: (line: AuditLine) => boolean): Promise<AuditLine>;
}

async function openDoor(
  limits: Readonly<Record<string, unknown>> = {},
  policy: unknown = POLICY,
): Promise<Door> {
  const stack = new AsyncDisposableStack();
  const network = stack.use(await Network.create({ policy }));
  const relay = await network.relay({ config: { limits } });
  const caller = stack.use(new RelayCaller(relay, network.root));
  return {
    network,
    relay,
    caller,
    alice: await loadIdentity(await network.issue("agent", "alice")),
    audited: (is) => eventually(async () => (await relay.audit()).find(is)),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** A service that counts who reaches it. */
class CountingUpstream implements AsyncDisposable {
  connections = 0;
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #accepting = this.#accept();

  get url(): string {
    return `tcp://127.0.0.1:${(this.#listener.addr as Deno.NetAddr).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#accepting;
  }

  async #accept(): Promise<void> {
    for await (const connection of this.#listener) {
      this.connections++;
      connection.close();
    }
  }
}
