/** Workloads of foreign trust domains: whom rules let in, and what is written down of them when rules change. */

import assert from "node:assert/strict";
import type { TrustDomainSpec } from "../../../src/core/network/resources.ts";
import { WorkloadAdmission } from "../../../src/control/sync/workload_admission.ts";
import { idOf, SyncGround } from "./sync_ground.ts";

const ALL = [{ path: "/ns/**", roleAttributes: ["workloads"] }];

Deno.test("nobody is let in without a rule that matches, or while the domain is disabled or of our own name", () =>
  onGround(async ({ admit, setDomain }) => {
    assert.equal(await admit("spiffe://partner.example/ns/a"), false);
    await setDomain({ rules: [{ path: "/ns/*/web", roleAttributes: ["web"] }] });
    const refused = ["/ns/a", "/ns/a/web/x", "/ns/a/../web", "/NS/a/web", "/"];
    for (const path of refused) assert.equal(await admit(`spiffe://partner.example${path}`), false, path);
    for (const id of [idOf("ns/a/web"), "spiffe://other.example/ns/a/web", "partner.example/ns/a/web", ""]) {
      assert.equal(await admit(id), false, id);
    }
    await setDomain({ disabled: true });
    assert.equal(await admit("spiffe://partner.example/ns/a/web"), false);
    await setDomain({ disabled: false });
    assert.equal(await admit("spiffe://partner.example/ns/a/web"), true);
  }));

Deno.test("a workload that an administrator disabled stays out, whatever rules say", () =>
  onGround(async ({ ground, admit, setDomain }) => {
    const id = "spiffe://partner.example/ns/a";
    await setDomain({ rules: ALL });
    assert.equal(await admit(id), true);
    const { id: resource } = (await ground.store.find("identity", id))!;
    await ground.changeIdentity(resource, { disabled: true });
    await ground.feed.refresh();
    assert.equal(await admit(id), false);
    await setDomain({ rules: [{ path: "/ns/a", roleAttributes: ["more"] }] });
    assert.equal(await admit(id), false);
  }));

Deno.test("what changed rules give to known workloads is written down once, and audited", () =>
  onGround(async ({ ground, workloads, admit, setDomain }) => {
    await setDomain({ rules: ALL });
    const ids = ["a", "b", "c"].map((name) => `spiffe://partner.example/ns/${name}`);
    for (const id of ids) assert.equal(await admit(id), true);
    await setDomain({ rules: [{ path: "/ns/a", roleAttributes: ["first"] }, ...ALL] });
    await Promise.all([workloads.noteRules(), workloads.noteRules()]);
    const attributes = () =>
      Promise.all(ids.map(async (id) => (await ground.store.find("identity", id))!.spec.derivedAttributes));
    assert.deepEqual(await attributes(), [["first", "workloads"], ["workloads"], ["workloads"]]);
    await setDomain({ rules: [{ path: "/ns/b", roleAttributes: [] }] });
    await workloads.noteRules();
    assert.deepEqual(await attributes(), [[], [], []]);
    const facts = (await ground.store.queryAudit({ event: "admin", limit: 100 }))
      .filter(({ detail }) => detail.action === "attributes").toReversed();
    assert.deepEqual(
      facts.map(({ detail: { id, before, after } }) => [id, before, after]).toSorted(),
      [
        [ids[0], ["first", "workloads"], []],
        [ids[0], ["workloads"], ["first", "workloads"]],
        [ids[1], ["workloads"], []],
        [ids[2], ["workloads"], []],
      ].toSorted(),
    );
    const revision = await ground.store.revision();
    await workloads.noteRules();
    assert.equal(await ground.store.revision(), revision);
  }));

Deno.test("rules that cannot be written down now are written down at the next look", () =>
  onGround(async ({ ground, admit, setDomain }) => {
    await setDomain({ rules: ALL });
    const id = "spiffe://partner.example/ns/a";
    assert.equal(await admit(id), true);
    await setDomain({ rules: [{ path: "/ns/a", roleAttributes: ["other"] }] });
    let isAway = true;
    const workloads = admission(ground, {
      transaction: (work) =>
        isAway ? Promise.reject(new Error("the database is away")) : ground.store.transaction(work),
    });
    await assert.rejects(workloads.noteRules(), /away/);
    isAway = false;
    await workloads.noteRules();
    assert.deepEqual((await ground.store.find("identity", id))!.spec.derivedAttributes, ["other"]);
  }));

function admission(ground: SyncGround, store: Partial<SyncGround["store"]> = {}): WorkloadAdmission {
  return new WorkloadAdmission({
    store: {
      find: (kind, key) => ground.store.find(kind, key),
      transaction: (work) => ground.store.transaction(work),
      ...store,
    },
    state: () => ground.feed.state,
    refresh: () => ground.feed.refresh(),
    source: idOf("controller/controller-1"),
    now: Date.now,
  });
}

/** Runs a test on a network with a trust domain `partner.example` that can be changed. */
async function onGround(
  test: (parts: {
    readonly ground: SyncGround;
    readonly workloads: WorkloadAdmission;
    readonly admit: (id: string) => Promise<boolean>;
    readonly setDomain: (change: Partial<TrustDomainSpec>) => Promise<void>;
  }) => Promise<void>,
): Promise<void> {
  await using ground = await SyncGround.open();
  const workloads = admission(ground);
  let spec: TrustDomainSpec = { roots: ["R"], rules: [], disabled: false };
  const setDomain = async (change: Partial<TrustDomainSpec>) => {
    spec = { ...spec, ...change };
    await ground.store.transaction(async (tx) => {
      const known = await tx.find("trust-domain", "partner.example");
      const written = known === undefined
        ? await tx.create("trust-domain", { name: "partner.example", spec })
        : await tx.update("trust-domain", known.id, { spec });
      assert.ok(written.ok);
    });
    await ground.feed.refresh();
  };
  await test({ ground, workloads, admit: (id) => workloads.admit(id), setDomain });
}
