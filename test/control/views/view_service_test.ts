/** Views are signed for those who want them, when they change or have lived half of their life, and never go back. */

import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { ViewService } from "../../../src/control/views/view_service.ts";
import type { PolicyDocument } from "../../../src/core/policy/document.ts";
import { compilePolicy } from "../../../src/core/policy/snapshot.ts";
import { createAuthority } from "../../../src/identity/authority.ts";
import { parseSpiffeId } from "../../../src/identity/spiffe_id.ts";
import { verifyView, type View } from "../../../src/identity/view.ts";

const ALICE = "spiffe://d/agent/alice";
const BOB = "spiffe://d/agent/bob";
const TTL = 3_600_000;
const SERVICES = { zone: "d.internal", ipv4: "10.101.0.0/16", ipv6: "fd00::/64" };
const AUTHORITY = await createAuthority();

class Subscriber {
  readonly heard: { readonly identity: string; readonly jws: string }[] = [];
  views(views: readonly { readonly identity: string; readonly jws: string }[]): void {
    this.heard.push(...views);
  }
}

function documentOf(roles: readonly string[]): PolicyDocument {
  return {
    identities: [ALICE, BOB].map((id) => ({ id, roleAttributes: [] })),
    services: [{ name: "web", roleAttributes: [], endToEnd: "required" }],
    servicePolicies: [
      { name: "p", type: "Dial", semantic: "AnyOf", identityRoles: roles, serviceRoles: ["@web"] },
    ],
  };
}

class Ground implements Disposable {
  now = 1_800_000_000_000;
  authority = AUTHORITY;
  readonly service: ViewService;

  constructor() {
    this.service = new ViewService({
      authority: () => this.authority,
      ttl: TTL,
      services: SERVICES,
      logger: SILENT_LOGGER,
      now: () => this.now,
    });
  }

  async grant(revision: number, roles: readonly string[]): Promise<void> {
    const policy = compilePolicy(documentOf(roles), { trustDomain: "d", declaredOnly: true });
    this.service.update({ policy, revision, known: new Set([ALICE, BOB]), changed: "all" });
    await this.service.settled();
  }

  async want(subscriber: Subscriber, add: readonly string[], remove: readonly string[] = []): Promise<void> {
    this.service.want(subscriber, { add, remove });
    await this.service.settled();
  }

  view(jws: string, subject = ALICE): Promise<View> {
    const authorities = [this.authority.publicJwk];
    return verifyView(jws, { authorities, subject: parseSpiffeId(subject), now: this.now });
  }

  [Symbol.dispose](): void {
    this.service[Symbol.dispose]();
  }
}

Deno.test("nobody hears of views that it does not want, or wants no more", async () => {
  using ground = new Ground();
  await ground.grant(1, ["@alice"]);
  const subscriber = new Subscriber();
  await ground.want(subscriber, [ALICE]);
  assert.deepEqual(subscriber.heard.map(({ identity }) => identity), [ALICE]);
  await ground.want(subscriber, [], [ALICE]);
  await ground.grant(2, ["@bob"]);
  assert.equal(subscriber.heard.length, 1);
});

Deno.test("a change is signed for those it concerns, with its revision", async () => {
  using ground = new Ground();
  await ground.grant(1, ["@alice"]);
  const subscriber = new Subscriber();
  await ground.want(subscriber, [ALICE, BOB]);
  await ground.grant(2, ["@alice", "@nobody"]);
  assert.equal(subscriber.heard.length, 2);
  await ground.grant(3, []);
  assert.deepEqual(subscriber.heard.slice(2).map(({ identity }) => identity), [ALICE]);
  const view = await ground.view(subscriber.heard[2]!.jws);
  assert.deepEqual([view.rev, view.dial], [3, []]);
});

Deno.test("a second subscriber gets the view that is there", async () => {
  using ground = new Ground();
  await ground.grant(1, ["@alice"]);
  const [first, second] = [new Subscriber(), new Subscriber()];
  await ground.want(first, [ALICE]);
  await ground.want(second, [ALICE]);
  assert.deepEqual(second.heard, first.heard);
  ground.service.drop(first);
  await ground.grant(2, []);
  assert.deepEqual([first.heard.length, second.heard.length], [1, 2]);
});

Deno.test("a view is renewed after half of its life, not before", async () => {
  using ground = new Ground();
  await ground.grant(1, ["@alice"]);
  const subscriber = new Subscriber();
  await ground.want(subscriber, [ALICE]);
  ground.now += TTL / 2 - 1;
  await ground.grant(2, ["@alice"]);
  assert.equal(subscriber.heard.length, 1);
  ground.now += 1;
  await ground.grant(2, ["@alice"]);
  assert.equal(subscriber.heard.length, 2);
  const view = await ground.view(subscriber.heard[1]!.jws);
  assert.equal(view.exp, (ground.now + TTL) / 1000);
});

Deno.test("another authority signs everything anew", async () => {
  using ground = new Ground();
  await ground.grant(1, ["@alice"]);
  const subscriber = new Subscriber();
  await ground.want(subscriber, [ALICE]);
  ground.authority = await createAuthority();
  ground.service.renewAll();
  await ground.service.settled();
  assert.equal((await ground.view(subscriber.heard[1]!.jws)).dial[0]!.service, "web");
});

Deno.test("changes in quick succession never end with an older view", async () => {
  using ground = new Ground();
  const subscriber = new Subscriber();
  ground.service.want(subscriber, { add: [ALICE], remove: [] });
  const grants = Array.from({ length: 20 }, (_, i) => ground.grant(i, i % 2 === 0 ? ["@alice"] : []));
  await Promise.all(grants);
  const revisions = await Promise.all(subscriber.heard.map(async ({ jws }) => (await ground.view(jws)).rev));
  assert.deepEqual(revisions, [...revisions].sort((a, b) => a - b));
  assert.deepEqual((await ground.view(subscriber.heard.at(-1)!.jws)).dial, []);
});
