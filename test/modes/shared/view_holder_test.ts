import assert from "node:assert/strict";
import type { JWK } from "jose";
import { parsePrefix } from "../../../src/base/ip.ts";
import { createLogger, SILENT_LOGGER } from "../../../src/base/log.ts";
import { type Authority, createAuthority } from "../../../src/identity/authority.ts";
import type { NodeNetwork } from "../../../src/identity/network_document.ts";
import { parseSpiffeId } from "../../../src/identity/spiffe_id.ts";
import { signView, type View } from "../../../src/identity/view.ts";
import { ViewHolder } from "../../../src/modes/shared/view_holder.ts";
import { eventually } from "../../support/eventually.ts";

const ALICE = "spiffe://clinic.example/agent/alice";
const DB = "spiffe://clinic.example/connector/db";
const SPARE = "spiffe://clinic.example/connector/spare";
const authority = await createAuthority();

/** What a controller's network is to a node that holds views. */
const NETWORK: NodeNetwork = {
  rev: 1,
  iat: 0,
  controllers: [],
  relays: [],
  trustDomains: [],
  revoked: [],
};

function holder(
  logger = SILENT_LOGGER,
  options: { readonly network?: NodeNetwork; readonly authorities?: () => JWK[] } = {},
): ViewHolder & Disposable {
  const { network, authorities = () => [authority.publicJwk] } = options;
  const views = new ViewHolder({
    identity: () => ({
      id: parseSpiffeId(ALICE),
      trust: { domain: "clinic.example", roots: [], authorities: authorities(), foreign: [] },
      network,
    }),
    logger,
  });
  return Object.assign(views, { [Symbol.dispose]: () => views.close() });
}

function view(rev: number, parts: Partial<View> = {}): View {
  const iat = Math.floor(Date.now() / 1_000);
  return {
    rev,
    sub: ALICE,
    iat,
    exp: iat + 600,
    dial: [{ service: "records", endToEnd: "required", bind: [DB] }],
    bind: [],
    ...parts,
  };
}

function signed(claims: View, by: Authority = authority): Promise<string> {
  return signView({ authority: by, view: claims });
}

Deno.test("without a view nothing is allowed", () => {
  using views = holder();
  assert.equal(views.isValid, false);
  assert.equal(views.mayDial("records"), false);
  assert.equal(views.mayDialAt("records", DB), false);
  assert.equal(views.mayServe("records", ALICE), false);
  assert.equal(views.isPlainAllowed("records"), false);
  assert.equal(views.peers.size, 0);
});

Deno.test("a view allows what it names and nothing beside it", async () => {
  using views = holder();
  await views.accept(await signed(view(1)), "relay-1");
  assert.equal(views.mayDialAt("records", DB), true);
  assert.equal(views.mayDialAt("records", SPARE), false);
  assert.equal(views.mayDialAt("other", DB), false);
  assert.equal(views.mayServe("records", DB), false);
  assert.deepEqual([...views.peers], [DB]);
});

const INTERCEPT = {
  addresses: ["records.example"],
  portRanges: [{ low: 443, high: 443 }],
  protocols: ["tcp"],
};
const HOST = { protocol: "tcp", address: "localhost", port: 8000 };
const SERVICES = { zone: "clinic.internal", ipv4: "10.101.0.0/16", ipv6: "fd00:1::/64" };

Deno.test("a view tells what may be dialled and offered, under which numbers, names and configs", async () => {
  using views = holder();
  assert.deepEqual([views.dialable(), views.bindable(), views.network], [[], [], undefined]);
  await views.accept(
    await signed(view(1, {
      services: SERVICES,
      dial: [
        { service: "z", endToEnd: "optional", bind: [SPARE, DB] },
        {
          service: "records",
          endToEnd: "required",
          bind: [DB],
          index: 20,
          intercept: INTERCEPT,
          idleTimeout: 30,
        },
      ],
      bind: [{ service: "web", endToEnd: "required", dial: [ALICE], host: HOST }],
    })),
    "relay-1",
  );
  const dialable = views.dialable();
  assert.deepEqual(dialable, [
    {
      service: "records",
      endToEnd: "required",
      connectors: [DB],
      index: 20,
      intercept: INTERCEPT,
      idleTimeout: 30_000,
    },
    { service: "z", endToEnd: "optional", connectors: [DB, SPARE], idleTimeout: 120_000 },
  ]);
  assert.equal(views.dialable(), dialable, "the same list until something changes");
  assert.deepEqual(views.bindable(), [{ service: "web", host: HOST, idleTimeout: 120_000 }]);
  assert.deepEqual(views.network, {
    zone: "clinic.internal",
    ipv4: parsePrefix("10.101.0.0/16"),
    ipv6: parsePrefix("fd00:1::/64"),
  });
});

Deno.test("configs of a newer version leave their service without, and pools of another size the network", async () => {
  using views = holder();
  await views.accept(
    await signed(view(1, {
      services: { ...SERVICES, ipv4: "10.0.0.0/8" },
      dial: [{
        service: "records",
        endToEnd: "required",
        bind: [DB],
        index: 20,
        intercept: { ...INTERCEPT, protocols: ["sctp"] },
      }],
      bind: [{ service: "web", endToEnd: "required", dial: [], host: { ...HOST, later: 1 } }],
    })),
    "relay-1",
  );
  assert.equal(views.network, undefined);
  assert.deepEqual(Object.keys(views.dialable()[0]!).includes("intercept"), false);
  assert.equal(views.dialable()[0]!.index, 20);
  assert.deepEqual(views.bindable(), [{ service: "web", idleTimeout: 120_000 }]);
});

Deno.test("what relays tell differently of a service is taken from the newest, what they grant is joined", async () => {
  using views = holder();
  const entry = { service: "records", endToEnd: "required" as const };
  await views.accept(
    await signed(
      view(2, { services: SERVICES, dial: [{ ...entry, bind: [DB], index: 30, intercept: INTERCEPT }] }),
    ),
    "relay-2",
  );
  await views.accept(await signed(view(1, { dial: [{ ...entry, bind: [SPARE], index: 20 }] })), "relay-1");
  assert.deepEqual(views.dialable(), [
    {
      ...{ service: "records", endToEnd: "required", connectors: [DB, SPARE], index: 30 },
      ...{ intercept: INTERCEPT, idleTimeout: 120_000 },
    },
  ]);
  assert.equal(views.network?.zone, "clinic.internal");
});

Deno.test("an older view, a foreign authority's and another identity's change nothing", async () => {
  const lines: string[] = [];
  using views = holder(createLogger({ write: (line) => lines.push(line) }));
  await views.accept(await signed(view(5)), "relay-1");
  const more = { dial: [{ service: "records", endToEnd: "required", bind: [DB, SPARE] } as const] };
  await views.accept(await signed(view(4, more)), "relay-1");
  await views.accept(await signed(view(6, more), await createAuthority()), "relay-1");
  await views.accept(await signed(view(6, { ...more, sub: DB })), "relay-1");
  assert.equal(views.mayDialAt("records", SPARE), false);
  assert.deepEqual(lines.map((line) => JSON.parse(line).reason), [
    "ERR_VIEW_OUTDATED",
    "ERR_VIEW_AUTHORITY",
    "ERR_VIEW_SUBJECT",
  ]);
});

Deno.test("a right holds where the view of any connected relay grants it; a plain flow needs them all", async () => {
  using views = holder();
  const bind = (endToEnd: "required" | "optional") => [{ service: "web", endToEnd, dial: [DB] }];
  await views.accept(await signed(view(1, { bind: bind("optional") })), "relay-1");
  assert.equal(views.isPlainAllowed("web"), true);
  await views.accept(await signed(view(1, { dial: [], bind: bind("required") })), "relay-2");
  assert.equal(views.mayDialAt("records", DB), true);
  assert.equal(views.isPlainAllowed("web"), false);
  views.disconnected("relay-1");
  assert.equal(views.mayDialAt("records", DB), false, "the one that is there knows better");
  views.disconnected("relay-2");
  assert.equal(views.mayDialAt("records", DB), true, "with none there, what is still valid counts");
});

Deno.test("a view's end takes its rights away and tells", async () => {
  using views = holder();
  let told = 0;
  const now = Math.floor(Date.now() / 1_000);
  await views.accept(await signed(view(1, { exp: now + 2 })), "relay-1");
  views.onChange(() => told++);
  assert.equal(views.mayDial("records"), true);
  await eventually(() => told > 0);
  assert.equal(views.mayDial("records"), false);
  assert.equal(views.isValid, false);
});

Deno.test("of two views of one revision the one signed later counts, in whatever order they come", async () => {
  using views = holder();
  const iat = Math.floor(Date.now() / 1_000);
  const more = { dial: [{ service: "records", endToEnd: "required", bind: [DB, SPARE] } as const] };
  await views.accept(await signed(view(3, { iat, ...more })), "relay-1");
  await views.accept(await signed(view(3, { iat: iat - 5 })), "relay-1");
  assert.equal(views.mayDialAt("records", SPARE), true);
  await views.accept(await signed(view(3, { iat: iat + 5 })), "relay-1");
  assert.equal(views.mayDialAt("records", SPARE), false);
});

Deno.test("where a controller signs, a relay that lags behind revives no right, not even as the last one", async () => {
  using views = holder(SILENT_LOGGER, { network: NETWORK });
  const more = { dial: [{ service: "records", endToEnd: "required", bind: [DB, SPARE] } as const] };
  await views.accept(await signed(view(8, more)), "relay-1");
  assert.equal(views.mayDialAt("records", SPARE), true);
  await views.accept(await signed(view(9)), "relay-2");
  assert.equal(views.mayDialAt("records", SPARE), false);
  views.disconnected("relay-2");
  assert.equal(views.mayDialAt("records", SPARE), false);
  assert.equal(views.mayDialAt("records", DB), true);
});

Deno.test("where a controller signs, an older view does not outlive the newest", async () => {
  using views = holder(SILENT_LOGGER, { network: NETWORK });
  const now = Math.floor(Date.now() / 1_000);
  await views.accept(await signed(view(8)), "relay-1");
  await views.accept(await signed(view(9, { exp: now + 2 })), "relay-2");
  await eventually(() => !views.isValid);
  assert.equal(views.mayDial("records"), false);
});

Deno.test("views of an authority that is trusted no more are dropped", async () => {
  let authorities = [authority.publicJwk];
  using views = holder(SILENT_LOGGER, { authorities: () => authorities });
  await views.accept(await signed(view(1)), "relay-1");
  const next = await createAuthority();
  authorities = [authority.publicJwk, next.publicJwk];
  await views.recheck();
  assert.equal(views.mayDial("records"), true);
  authorities = [next.publicJwk];
  await views.recheck();
  assert.equal(views.mayDial("records"), false);
});

Deno.test("who is refused by the relays that answer has no rights, until one brings a view again", async () => {
  using views = holder();
  await views.accept(await signed(view(1)), "relay-1");
  await views.accept(await signed(view(1)), "relay-2");
  views.refused("relay-1");
  views.disconnected("relay-1");
  assert.ok(views.mayDial("records"), "a relay in error takes away nothing that another one grants");
  views.disconnected("relay-2");
  assert.ok(views.isRefused);
  assert.ok(!views.isValid && !views.mayDial("records"));
  await views.accept(await signed(view(1)), "relay-1");
  assert.ok(!views.isRefused);
  assert.ok(views.mayDial("records"));
});

Deno.test("without a connection rights last as long as the view, unless a relay refuses", async () => {
  using views = holder(SILENT_LOGGER, { network: NETWORK });
  await views.accept(await signed(view(1)), "relay-1");
  views.disconnected("relay-1");
  assert.ok(views.mayDial("records"));
  let changes = 0;
  views.onChange(() => changes++);
  views.refused("relay-1");
  views.refused("relay-1");
  assert.equal(changes, 1);
  assert.ok(!views.mayDial("records"));
});
