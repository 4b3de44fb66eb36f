/** What every link between a relay and its controller does, within one process or over HTTPS. */

import assert from "node:assert/strict";
import type { ControllerLink } from "../../../src/control/sync/link.ts";
import { stateToJson } from "../../../src/core/network/state_json.ts";
import { eventually } from "../../support/eventually.ts";
import { configSpec, egressSpec } from "../../store/store_ground.ts";
import { fact, following, reportOf, verified } from "./link_follower.ts";
import { idOf, RELAY, SyncGround, TRUST_DOMAIN } from "./sync_ground.ts";

type Opener = (ground: SyncGround) => ControllerLink | Promise<ControllerLink>;

/** Registers the suite for one kind of link. */
export function testLink(kind: string, open: Opener): void {
  for (const [name, run] of Object.entries(CASES)) {
    Deno.test(`${kind}: ${name}`, async () => {
      await using ground = await SyncGround.open();
      await run(ground, await open(ground));
    });
  }
}

const CASES: Readonly<Record<string, (ground: SyncGround, link: ControllerLink) => Promise<void>>> = {
  "begins with the whole network and goes on with what changes, without secrets"(ground, link) {
    return following(link, async (stream) => {
      const first = await stream.next("snapshot");
      assert.equal(first.state.trustDomain, TRUST_DOMAIN);
      assert.deepEqual([...first.state.identities.values()].map(({ spec }) => spec.spiffeId), [RELAY]);
      const alice = await ground.addIdentity("alice", {
        roleAttributes: ["users"],
        adminRole: "admin",
        externalId: "https://issuer.example|alice",
        tags: { note: "private" },
      });
      const secretHash = "a".repeat(64);
      await ground.store.transaction(async (tx) => {
        const token = { role: "admin", secretHash, expiresAt: null, scopes: [], bootstrap: false } as const;
        await tx.create("api-token", { name: "ci", spec: token });
      });
      await ground.changeIdentity(alice, { disabled: true });
      await eventually(() => stream.state?.identities.get(alice)?.spec.disabled);
      assert.deepEqual(stream.state!.identities.get(alice), {
        name: "alice",
        spec: {
          type: "agent",
          spiffeId: idOf("agent/alice"),
          roleAttributes: ["users"],
          derivedAttributes: [],
          disabled: true,
          address: null,
        },
      });
      const heard = JSON.stringify(
        stream.events.map((event) => event.type === "snapshot" ? stateToJson(event.state) : event),
      );
      for (const secret of [secretHash, "issuer.example", "private"]) {
        assert.ok(!heard.includes(secret), secret);
      }
    });
  },

  "tells a service with its configs, also when only a config changed or the service lost it"(ground, link) {
    return following(link, async (stream) => {
      await stream.next("snapshot");
      const ids = await ground.store.transaction(async (tx) => {
        const config = await tx.create("config", { name: "host", spec: configSpec({ data: { port: 1 } }) });
        assert.ok(config.ok);
        const spec = {
          configs: [config.value.id],
          encryptionRequired: false,
          roleAttributes: ["a"],
          tags: {},
        };
        const service = await tx.create("service", { name: "web", spec });
        assert.ok(service.ok);
        return { config: config.value.id, service: service.value.id, spec };
      });
      const configs = () => stream.state?.services.get(ids.service)?.spec.configs;
      await eventually(() => configs()?.["host.v1"]?.port === 1);
      await ground.store.transaction((tx) =>
        tx.update("config", ids.config, { spec: configSpec({ data: { port: 2 } }) })
      );
      await eventually(() => configs()?.["host.v1"]?.port === 2);
      await ground.store.transaction((tx) =>
        tx.update("service", ids.service, { spec: { ...ids.spec, configs: [] } })
      );
      await eventually(() => configs() !== undefined && Object.keys(configs()!).length === 0);
      await ground.store.transaction((tx) => tx.remove("service", ids.service));
      await eventually(() => configs() === undefined);
    });
  },

  "tells the one active egress policy"(ground, link) {
    return following(link, async (stream) => {
      await stream.next("snapshot");
      const [a, b] = await ground.store.transaction(async (tx) => {
        const a = await tx.create("egress-policy", {
          name: "a",
          spec: egressSpec({ v: 1 }, { active: true }),
        });
        const b = await tx.create("egress-policy", {
          name: "b",
          spec: egressSpec({ v: 2 }, { active: false }),
        });
        assert.ok(a.ok && b.ok);
        return [a.value.id, b.value.id];
      });
      await eventually(() => stream.state?.egress?.v === 1);
      await ground.store.transaction(async (tx) => {
        await tx.update("egress-policy", b!, { spec: egressSpec({ v: 2 }, { active: true }) });
        await tx.update("egress-policy", a!, { spec: egressSpec({ v: 1 }, { active: false }) });
      });
      await eventually(() => stream.state?.egress?.v === 2);
      await ground.store.transaction((tx) => tx.remove("egress-policy", b!));
      await eventually(() => stream.state?.egress === null);
    });
  },

  async "resumes where a relay was, with what it missed and nothing else"(ground, link) {
    const alice = await ground.addIdentity("alice");
    const gone = await ground.addIdentity("gone");
    await ground.feed.refresh();
    const position = await following(link, async (stream) => {
      const { epoch, state } = await stream.next("snapshot");
      return { epoch, revision: state.revision };
    });
    await ground.changeIdentity(alice, { roleAttributes: ["new"] });
    await ground.store.transaction((tx) => tx.remove("identity", gone));
    await ground.feed.refresh();
    await following(link, async (stream) => {
      const event = await stream.next("changes");
      const told = event.changes.filter((change) => change.kind === "identity");
      assert.deepEqual(
        told.map(({ id, value }) => [id, value?.spec.roleAttributes]).sort(),
        [
          [alice, ["new"]],
          [gone, undefined],
        ].sort(),
      );
      assert.equal(event.revision, ground.feed.state.revision);
      assert.ok(!stream.events.some(({ type }) => type === "snapshot"));
    }, position);
  },

  async "sends everything anew to a relay that knows another history, or a later one"(_ground, link) {
    const position = await following(link, async (stream) => {
      const { epoch, state } = await stream.next("snapshot");
      return { epoch, revision: state.revision };
    });
    for (const since of [{ ...position, epoch: "other" }, { ...position, revision: position.revision + 1 }]) {
      await following(link, async (stream) => {
        await stream.next("snapshot");
        assert.equal(stream.events[0]!.type, "snapshot");
      }, since);
    }
  },

  "sends everything anew once a backup was restored"(ground, link) {
    return following(link, async (stream) => {
      const { epoch } = await stream.next("snapshot");
      await ground.store.setSetting("sync.epoch", "restored");
      await eventually(() =>
        stream.events.some((event) => event.type === "snapshot" && event.epoch === "restored")
      );
      assert.notEqual(epoch, "restored");
    });
  },

  "tells revoked serials although no resource changed"(ground, link) {
    return following(link, async (stream) => {
      const alice = await ground.addIdentity("alice");
      await ground.store.transaction(async (tx) => {
        const times = { issuedAt: Date.now(), notAfter: Date.now() + 60_000, revokedAt: null };
        const subject = { identityId: alice, spiffeId: idOf("agent/alice"), issuer: "ca" };
        await tx.addCertificate({ serial: "AB12", ...subject, ...times });
      });
      await stream.next("snapshot");
      await ground.store.transaction((tx) => tx.revokeCertificates({ serial: "AB12" }, Date.now()));
      await eventually(() => stream.state?.revoked.has("AB12"), { timeout: 1_000 });
    });
  },

  "tells new roots"(ground, link) {
    return following(link, async (stream) => {
      await stream.next("snapshot");
      ground.surroundings = {
        ...ground.surroundings,
        roots: [...ground.network.roots, ground.network.roots[0]!],
      };
      void ground.feed.refresh();
      await eventually(() => stream.state?.roots.length === 2);
    });
  },

  async "sends views that are wanted, at each change, and no others"(ground, link) {
    await ground.addIdentity("alice", { roleAttributes: ["users"] });
    await ground.addIdentity("bob", {
      spiffeId: idOf("agent/bob"),
      roleAttributes: ["users"],
    });
    await ground.feed.refresh();
    await following(link, async (stream) => {
      await stream.next("snapshot");
      await link.wantViews({ add: [idOf("agent/alice")], remove: [] });
      await eventually(() => stream.views.has(idOf("agent/alice")));
      await ground.addService("web");
      const view = await eventually(async () => {
        const view = await verified(ground, stream.views.get(idOf("agent/alice"))!);
        return view.dial.length === 1 && view;
      });
      assert.equal(view.dial[0]!.service, "web");
      await ground.addIdentity("host", {
        type: "connector",
        spiffeId: idOf("connector/host"),
        roleAttributes: ["hosts"],
      });
      await eventually(async () => {
        const { dial } = await verified(ground, stream.views.get(idOf("agent/alice"))!);
        return dial[0]!.bind[0] === idOf("connector/host");
      });
      await link.wantViews({ add: [], remove: [idOf("agent/alice")] });
      const last = stream.views.get(idOf("agent/alice"));
      await link.wantViews({ add: [idOf("agent/bob")], remove: [] });
      await ground.addService("more");
      await eventually(async () =>
        (await verified(ground, stream.views.get(idOf("agent/bob"))!)).dial.length === 2
      );
      assert.equal(stream.views.get(idOf("agent/alice")), last);
    });
  },

  async "says in views how a service appears, and within a second what an edited config changes"(
    ground,
    link,
  ) {
    const [alice, host] = [idOf("agent/alice"), idOf("connector/host")];
    await ground.addIdentity("alice", { roleAttributes: ["users"] });
    await ground.addIdentity("host", { type: "connector", spiffeId: host, roleAttributes: ["hosts"] });
    const intercept = {
      addresses: ["web.example"],
      portRanges: [{ low: 443, high: 443 }],
      protocols: ["tcp"],
    };
    const served = { protocol: "tcp", address: "localhost", port: 8000 };
    const types = [["intercept.v1", intercept], ["host.v1", served]] as const;
    const configs = await ground.store.transaction(async (tx) => {
      const ids: string[] = [];
      for (const [type, data] of types) {
        const made = await tx.create("config", { name: type, spec: configSpec({ type, data }) });
        assert.ok(made.ok);
        ids.push(made.value.id);
      }
      return ids;
    });
    await ground.addService("web", { configs, index: 20, idleTimeout: 30 });
    await ground.feed.refresh();
    await following(link, async (stream) => {
      await stream.next("snapshot");
      await link.wantViews({ add: [alice, host], remove: [] });
      await eventually(() => stream.views.has(alice) && stream.views.has(host));
      const dialled = await verified(ground, stream.views.get(alice)!);
      assert.deepEqual(dialled.services?.zone, "ginnel.internal");
      const { bind: _peers, ...entry } = dialled.dial[0]!;
      assert.deepEqual(entry, {
        ...{ service: "web", endToEnd: "required", index: 20, intercept, idleTimeout: 30 },
      });
      const bound = await verified(ground, stream.views.get(host)!);
      assert.deepEqual([bound.bind[0]!.host, bound.bind[0]!.idleTimeout], [served, 30]);
      const edit = (id: string, change: Parameters<typeof configSpec>[0]) =>
        ground.store.transaction((tx) => tx.update("config", id, { spec: configSpec(change) }));
      await edit(configs[0]!, { type: "intercept.v1", data: { ...intercept, protocols: ["udp"] } });
      await edit(configs[1]!, { type: "host.v1", data: { ...served, port: 8001 } });
      await eventually(async () => {
        const { dial } = await verified(ground, stream.views.get(alice)!);
        const { bind } = await verified(ground, stream.views.get(host)!);
        return dial[0]!.intercept?.["protocols"]?.toString() === "udp" && bind[0]!.host?.["port"] === 8001;
      }, { timeout: 1_000 });
    });
  },

  async "refuses wishes without a stream"(_ground, link) {
    await assert.rejects(link.wantViews({ add: [], remove: [] }), { code: "ERR_CONTROLLER_REFUSED" });
  },

  async "takes a report once, in the relay's own name"(ground, link) {
    const report = reportOf({
      audit: [fact("connect"), { ...fact("deny"), source: "somebody else" }, fact("admin")],
    });
    await link.report(report);
    await link.report(report);
    const entries = await ground.store.queryAudit({ limit: 10 });
    assert.deepEqual(entries.map(({ event, source }) => [event, source]), [["deny", RELAY], [
      "connect",
      RELAY,
    ]]);
    const { items } = await ground.store.sessions({ limit: 10 });
    assert.deepEqual(items.map(({ id, relay }) => [id, relay]), [["relay-1~s1", RELAY]]);
    const [relay] = await ground.store.relays();
    assert.equal(relay?.identity, RELAY);
    await assert.rejects(
      link.report(reportOf({ audit: Array.from({ length: 1_001 }, () => fact("deny")) })),
      {
        code: "ERR_CONTROLLER_REFUSED",
      },
    );
  },

  async "closes what a relay left open when it starts"(ground, link) {
    await link.report(reportOf({}));
    await link.report({ ...reportOf({}), batch: "2", sessions: [], isFirst: true });
    assert.equal((await ground.store.sessions({ limit: 1, open: true })).total, 0);
  },

  async "gives addresses to those who exist and are enabled, and tells of those taken back"(ground, link) {
    const alice = await ground.addIdentity("alice");
    await ground.feed.refresh();
    const given = await link.allocate(idOf("agent/alice"), { metadata: { via: "relay-1" } });
    assert.ok(given.ok);
    assert.deepEqual(await link.allocate(idOf("agent/alice")), {
      ...given,
      isNew: false,
      allocation: {
        ...given.allocation,
        lastSeenAt: (await ground.store.addressOf(idOf("agent/alice")))!.lastSeenAt,
      },
    });
    assert.deepEqual(await link.allocate(idOf("agent/nobody")), { ok: false, fault: "unknown" });
    await following(link, async (stream) => {
      await stream.next("snapshot");
      await ground.store.releaseAddress(idOf("agent/alice"));
      await link.touch([idOf("agent/alice")]);
      assert.equal((await stream.next("released")).identity, idOf("agent/alice"));
    });
    await ground.changeIdentity(alice, { disabled: true });
    await ground.feed.refresh();
    assert.deepEqual(await link.allocate(idOf("agent/alice")), { ok: false, fault: "unknown" });
    assert.equal(await link.release(idOf("agent/alice")), false);
  },

  "admits workloads by their domain's rules only, and takes the rules' attributes back with them"(
    ground,
    link,
  ) {
    return following(link, async (stream) => {
      await stream.next("snapshot");
      const web = "spiffe://other.example/ns/prod/sa/web";
      assert.equal(await link.admitWorkload(web), false);
      const domain = await ground.store.transaction(async (tx) => {
        const rules = [{ path: "/ns/prod/sa/*", roleAttributes: ["users"] }];
        const spec = { roots: ground.network.roots, rules, disabled: false };
        const written = await tx.create("trust-domain", { name: "other.example", spec });
        assert.ok(written.ok);
        return written.value;
      });
      await ground.feed.refresh();
      for (
        const id of [
          "spiffe://other.example/ns/test/sa/web",
          "spiffe://other.example/ns/prod/sa/web/more",
          "spiffe://else.example/ns/prod/sa/web",
          idOf("agent/ghost"),
          "spiffe://other.example/ns/prod/sa/..",
        ]
      ) assert.equal(await link.admitWorkload(id), false, id);
      assert.equal(await link.admitWorkload(web), true);
      assert.equal(await link.admitWorkload(web), true);
      assert.deepEqual([...ground.feed.policy.attributesOf(web)!], ["users"]);
      const spec = { ...domain.spec, disabled: true };
      await ground.store.transaction((tx) => tx.update("trust-domain", domain.id, { spec }));
      await ground.feed.refresh();
      assert.equal(ground.feed.policy.attributesOf(web), undefined);
      assert.equal(await link.admitWorkload(web), false);
    });
  },

  "tells a relay which of its sessions an administrator ended"(ground, link) {
    return following(link, async (stream) => {
      await stream.next("snapshot");
      await ground.store.announce({ type: "ended", relay: idOf("relay/other"), session: "other~s0" });
      await ground.store.announce({ type: "ended", relay: RELAY, session: "relay-1~s1" });
      assert.equal((await stream.next("ended")).session, "s1");
    });
  },

  "tells a relay at once whose addresses were taken away, whoever did it"(ground, link) {
    return following(link, async (stream) => {
      await stream.next("snapshot");
      await ground.addIdentity("alice");
      await ground.addIdentity("bob");
      await ground.feed.refresh();
      const pool = { now: Date.now(), reclaimBefore: Date.now() + 1_000, ipv4: "10.1.0.0/30", ipv6: null };
      assert.ok((await link.allocate(idOf("agent/alice"))).ok);
      await ground.store.releaseAddress(idOf("agent/alice"));
      assert.equal((await stream.next("released")).identity, idOf("agent/alice"));
      // The only address of that pool: whoever comes next takes it from its owner.
      for (const client of ["agent/alice", "agent/bob"]) {
        assert.ok((await ground.store.allocateAddress(idOf(client), pool)).ok);
      }
      await eventually(() => stream.events.filter(({ type }) => type === "released").length === 2);
      const told = stream.events.filter((event) => event.type === "released");
      assert.deepEqual(told.map(({ identity }) => identity), [idOf("agent/alice"), idOf("agent/alice")]);
    });
  },

  "ends the stream of a relay that is disabled"(ground, link) {
    return following(link, async (stream) => {
      await stream.next("snapshot");
      const relay = await ground.store.find("identity", RELAY);
      await ground.changeIdentity(relay!.id, { disabled: true });
      await stream.ended;
    });
  },

  "shows that the controller lives"(_ground, link) {
    return following(link, async (stream) => {
      const { time } = await stream.next("heartbeat");
      assert.ok(Math.abs(time - Date.now()) < 5_000);
    });
  },
};
