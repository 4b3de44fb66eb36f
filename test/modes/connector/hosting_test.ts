/** Services that the network's administrators define, at a connector that lets some destinations through. */

import assert from "node:assert/strict";
import { utf8, utf8Decode } from "../../../src/base/bytes.ts";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { parseDestination } from "../../../src/core/service/destinations.ts";
import type { Host } from "../../../src/core/service/host.ts";
import type { FlowWish } from "../../../src/core/service/host_target.ts";
import { Hosting } from "../../../src/modes/connector/hosting.ts";
import { HostingReach } from "../../../src/modes/connector/hosting_reach.ts";
import type { OfferedService } from "../../../src/modes/connector/services.ts";
import type { BindableService } from "../../../src/modes/shared/view_services.ts";
import { eventually } from "../../support/eventually.ts";

/** A connector's hosting, told by the test what the view says. */
class Ground implements Disposable {
  readonly services = new Map<string, OfferedService>();
  /** What relays were told. */
  readonly told: string[] = [];
  readonly #hosting: Hosting;
  #bindable: readonly BindableService[] = [];
  #changed = () => {};

  constructor(options: { readonly allow?: readonly string[]; readonly configured?: OfferedService } = {}) {
    const { allow = ["127.0.0.0/8", "::1"], configured } = options;
    if (configured !== undefined) this.services.set(configured.name, configured);
    this.#hosting = new Hosting({
      views: {
        bindable: () => this.#bindable,
        onChange: (listener) => {
          this.#changed = listener;
          return () => this.#changed = () => {};
        },
      },
      reach: new HostingReach(allow.map((text) => parseDestination(text)!)),
      services: this.services,
      onOffered: ({ name }) => this.told.push(`+${name}`),
      onWithdrawn: (name) => this.told.push(`-${name}`),
      onStanding: ({ name, standing }) =>
        this.told.push(`${name} ${standing.healthy ? "well" : "ill"} ${standing.cost}`),
      logger: SILENT_LOGGER,
    });
  }

  say(hosts: Readonly<Record<string, Host | undefined>>): void {
    this.#bindable = Object.entries(hosts).map(([service, host]) => ({
      service,
      idleTimeout: 120_000,
      ...(host === undefined ? {} : { host }),
    }));
    this.#changed();
  }

  /** The service once it is offered. */
  offered(name: string): Promise<OfferedService> {
    return eventually(() => this.services.get(name));
  }

  [Symbol.dispose](): void {
    this.#hosting.close();
  }
}

/** A TCP upstream that says its name to whoever connects. */
function upstream(name: string) {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  (async () => {
    for await (const conn of listener) {
      await conn.write(utf8(name)).catch(() => {});
      conn.close();
    }
  })();
  return { port: listener.addr.port, [Symbol.dispose]: () => listener.close() };
}

function at(port: number, more: Partial<Host> = {}): Host {
  return { protocol: "tcp", address: "127.0.0.1", port, ...more };
}

const SIGNAL = new AbortController().signal;
const TCP = { protocol: "tcp" } as const;

async function ask(
  service: OfferedService,
  wish: FlowWish = TCP,
): Promise<string> {
  const channel = await service.dial({ ...wish, caller: "spiffe://d/agent/a" }, SIGNAL);
  try {
    return utf8Decode((await channel.read()) ?? new Uint8Array());
  } finally {
    channel.abort();
  }
}

Deno.test("what hosting.allow does not let through is never offered", async () => {
  using ground = new Ground({ allow: ["127.0.0.0/8:8000"] });
  ground.say({
    metadata: at(80, { address: "169.254.169.254" }),
    ssh: at(22),
    name: at(8000, { address: "localhost.localdomain.invalid" }),
    web: at(8000),
  });
  await ground.offered("web");
  assert.deepEqual(ground.told, ["+web"]);
});

Deno.test("a forwarded address is checked for each flow", async () => {
  using named = upstream("reached");
  using ground = new Ground({ allow: [`127.0.0.1:${named.port}`] });
  ground.say({
    lan: {
      protocol: "tcp",
      forwardAddress: true,
      allowedAddresses: ["127.0.0.0/24"],
      forwardPort: true,
      allowedPortRanges: [{ low: 1, high: 65_535 }],
    },
  });
  const service = await ground.offered("lan");
  const refused = { code: "ERR_FLOW_REFUSED", reason: "denied" };
  const { port } = named;
  await assert.rejects(ask(service, { protocol: "tcp", port, address: "127.0.0.2" }), refused);
  await assert.rejects(ask(service, { protocol: "tcp", port, address: "127.0.1.1" }), refused);
  await assert.rejects(ask(service, { protocol: "tcp", port: port - 1, address: "127.0.0.1" }), refused);
  await assert.rejects(ask(service, { protocol: "tcp", port }), refused);
  await assert.rejects(ask(service, { protocol: "udp", port, address: "127.0.0.1" }), refused);
  assert.equal(await ask(service, { protocol: "tcp", port, address: "127.0.0.1" }), "reached");
});

Deno.test("services come, change and go as the view says; the connector's own stay", async () => {
  using first = upstream("first");
  using second = upstream("second");
  const own = { name: "own" } as OfferedService;
  using ground = new Ground({ configured: own });
  ground.say({ own: at(first.port), web: at(first.port), unhosted: undefined });
  assert.equal(await ask(await ground.offered("web")), "first");
  ground.say({ own: at(first.port), web: at(first.port) });
  ground.say({ own: at(first.port), web: at(second.port) });
  await eventually(async () => await ask(ground.services.get("web")!) === "second");
  ground.say({});
  assert.equal(ground.services.get("own"), own);
  assert.deepEqual([...ground.services.keys()], ["own"]);
  assert.deepEqual(ground.told, ["+web", "+web", "-web"]);
});

Deno.test("a name is dialled at the address that was checked", async () => {
  using named = upstream("by name");
  using ground = new Ground();
  ground.say({ web: at(named.port, { address: "localhost" }) });
  const service = await ground.offered("web");
  assert.equal(await ask(service), "by name");
  const target = await service.target(TCP, SIGNAL);
  assert.ok(target.kind === "tcp" && !target.addresses.includes("localhost"), JSON.stringify(target));
});

Deno.test("maxConnections bounds the flows at once", async () => {
  using ground = new Ground();
  ground.say({ web: at(1, { listenOptions: { maxConnections: 2 } }) });
  const service = await ground.offered("web");
  assert.deepEqual([service.enter(), service.enter(), service.enter()], [true, true, false]);
  service.leave();
  assert.ok(service.enter());
});

Deno.test("a port check that fails takes the service off, and brings it back", async () => {
  using ground = new Ground();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  ground.say({
    web: at(port, {
      listenOptions: { cost: 7, precedence: "required" },
      portChecks: [{ address: `127.0.0.1:${port}`, interval: "1s", timeout: "1s" }],
    }),
  });
  const service = await ground.offered("web");
  assert.deepEqual(service.standing, { healthy: true, cost: 7, precedence: "required" });
  listener.close();
  await eventually(() => ground.told.at(-1) === "web ill 7");
  assert.ok(!service.isHealthy);
  using _again = Deno.listen({ hostname: "127.0.0.1", port });
  await eventually(() => ground.told.at(-1) === "web well 7");
});

Deno.test("an HTTP check makes a service dear, and cannot look where flows may not go", async () => {
  let status = 503;
  await using server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response("ready", { status }),
  );
  const { port } = server.addr;
  using ground = new Ground({ allow: [`127.0.0.1:${port}`] });
  const check = { url: `http://127.0.0.1:${port}/health`, interval: "1s", timeout: "1s" } as const;
  ground.say({
    web: at(port, {
      httpChecks: [{
        ...check,
        expectInBody: "ready",
        actions: [
          { trigger: "fail", action: "increase cost 100" },
          { trigger: "pass", action: "decrease cost 1000" },
        ],
      }],
    }),
    spy: at(port, { httpChecks: [{ ...check, url: "http://127.0.0.2/" }] }),
  });
  await eventually(() => ground.told.includes("spy ill 0"));
  await eventually(() => ground.told.includes("web well 100"));
  status = 200;
  await eventually(() => ground.told.includes("web well 0"));
});
