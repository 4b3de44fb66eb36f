/**
 * The dark service as a controller runs it: everything is made through the API with an administrator's own words, every
 * node is enrolled, and then an ordinary web application is reached by those the policy names and by nobody else, with
 * nothing that listens and nobody in between who knows what is said.
 */

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { decodeJwt } from "jose";
import type { AuditEntry } from "../../src/core/network/audit_entry.ts";
import type { ByteChannel } from "../../src/base/channel.ts";
import { utf8Decode } from "../../src/base/bytes.ts";
import { LineReader } from "../../src/modes/shared/line_reader.ts";
import { ControllerGround, type Enrolled } from "../support/controller_ground.ts";
import { eventually } from "../support/eventually.ts";
import { askProxy, proxyStatus } from "../support/local_client.ts";
import type { AgentNode, ConnectorNode, RelayNode } from "../support/network.ts";
import { findTexts, formsOf, searchMemory } from "../support/process_memory.ts";
import { socketsOf } from "../support/process_sockets.ts";
import { identityOf, RelayCaller } from "../support/relay_caller.ts";

/** As the acceptance criteria state it, letter by letter. */
const POLICY =
  '{"name":"rtmx-sync-access","type":"Dial","identityRoles":["#rtmx-users"],"serviceRoles":["@rtmx-sync"],"semantic":"AnyOf"}';

/** Times a marker is said in each direction. */
const REPEATS = 300;

Deno.test("a dark service with a controller", async (t) => {
  await using world = await openWorld();
  const { ground, relay, connector, alice, mallory, app } = world;

  await t.step("whom the policy names gets the application as it is, HTTP and WebSocket", async () => {
    const base = `127.0.0.1:${alice.forward("rtmx-sync")}`;
    const answer = await fetch(`http://${base}/health`);
    assert.deepEqual([answer.status, await answer.text()], [200, "GET /health"]);
    const posted = await fetch(`http://${base}/items`, { method: "POST", body: "x".repeat(300_000) });
    assert.equal(await posted.text(), "POST /items 300000");
    await using socket = await openSocket(`ws://${base}/live`);
    assert.equal(await socket.ask("over the overlay"), "over the overlay");
  });

  await t.step(
    "nothing listens for it: the connector has no listener but its own status, a file",
    async () => {
      // Every socket is accounted for; one that is just being dialled stands in no table for a moment.
      const sockets = await eventually(() => {
        const found = socketsOf(connector.process!.pid);
        return found.every(({ kind }) => kind !== "unknown") && found;
      });
      assert.deepEqual(
        sockets.filter(({ listens }) => listens).map(({ kind, path }) => [kind, path]),
        [["unix", `${ground.folder}/connector-1.sock`]],
      );
      assert.ok(sockets.length > 0);
      const atController = socketsOf(ground.controllers[0]!.process.pid);
      assert.ok(
        atController.some(({ port, listens }) => listens && port === ground.controllers[0]!.port),
        "the same look does see what listens",
      );
    },
  );

  await t.step(
    "whom it does not name is refused everywhere, and the application sees 0 bytes",
    async () => {
      const before = { ...app.seen };
      assert.equal(await proxyStatus(mallory.httpProxy, "rtmx-sync"), 403, "by its own agent");
      // An insider with an agent of its own making: a genuine identity, and no manners. It is not even told that there is
      // such a service.
      const [root] = await ground.roots();
      await using caller = new RelayCaller(relay, root!);
      const connection = await caller.dial();
      const view = await connection.view(await caller.proof(await identityOf(Promise.resolve(mallory.path))));
      const claims = JSON.stringify(await firstView(view.body));
      assert.ok(claims.includes(mallory.spiffeId) && !claims.includes("rtmx-sync"), claims);
      for (const form of ["sealed", "capsules", "classic"] as const) {
        assert.equal((await connection.flow("rtmx-sync", { form })).status, 403, form);
      }
      assert.deepEqual(app.seen, before, "the application heard something");
      const denied = await audit(ground, `event=deny&identity=${mallory.spiffeId}&service=rtmx-sync`, 3);
      for (const entry of denied) {
        assert.equal(entry.source, relay.spiffeId);
        assert.ok(entry.outcome !== "open" && Math.abs(Date.now() - entry.time) < 60_000);
      }
    },
  );

  await t.step(
    "the policy is what decides: with the attribute it is let in, without it cut off",
    async () => {
      const change = (roleAttributes: readonly string[]) =>
        ground.api("PATCH", `/identities/${mallory.id}`, { roleAttributes });
      assert.equal((await change(["rtmx-users"])).status, 200);
      await eventually(async () => await proxyStatus(mallory.httpProxy, "rtmx-sync") === 200);
      const open = await askProxy(mallory.httpProxy, "rtmx-sync");
      await open.client.send("GET /stay HTTP/1.1\r\nHost: a\r\n\r\n");
      await open.client.readUntil((text) => text.includes("GET /stay"));
      assert.equal((await change([])).status, 200);
      const answered = performance.now();
      await assert.rejects(open.client.readToEnd(), Deno.errors.ConnectionReset);
      assert.ok(performance.now() - answered < 1_000, "a live flow ends within a second");
      const before = { ...app.seen };
      assert.equal(await proxyStatus(mallory.httpProxy, "rtmx-sync"), 403);
      assert.deepEqual(app.seen, before);
      assert.equal((await fetch(`http://127.0.0.1:${alice.forward("rtmx-sync")}/`)).status, 200);
    },
  );

  await t.step(
    "what is said occurs in no memory, log, database or file of relay and controller",
    async () => {
      const [up, down] = [newMarker(), newMarker()];
      const base = `127.0.0.1:${alice.forward("rtmx-sync")}`;
      app.says = down;
      const socket = await openSocket(`ws://${base}/live`);
      for (let i = 0; i < REPEATS; i++) assert.equal(await socket.ask(up), down + up);
      const posted = await fetch(`http://${base}/${up}`, { method: "POST", body: up.repeat(REPEATS) });
      assert.ok((await posted.text()).includes(up));
      for (const end of [alice, connector]) {
        const { found } = await searchMemory(end.process!.pid, [up, down]);
        assert.deepEqual(new Set(found), new Set([up, down]), `${end.name}, where the search sees them`);
      }
      const between = { relay: relay.process!.pid, controller: ground.controllers[0]!.process.pid };
      for (const [who, pid] of Object.entries(between)) {
        const { found, bytes, unreadable } = await searchMemory(pid, [up, down]);
        assert.deepEqual(found, [], `in the ${who}'s memory`);
        assert.ok(bytes > 50 << 20 && unreadable < bytes / 100, `${who}: ${bytes} and ${unreadable}`);
      }
      await socket[Symbol.asyncDispose]();
      // The controller has heard of it: both bytes and end, and not a word.
      const closed = await eventually(async () =>
        (await audit(ground, `event=close&identity=${alice.spiffeId}`, 1))
          .find(({ detail: { bytesIn, bytesOut } }) =>
            Math.min(Number(bytesIn), Number(bytesOut)) > REPEATS * up.length
          )
      );
      assert.equal(closed.outcome, "closed");
      const forms = [...formsOf(up), ...formsOf(down)];
      const written = await readFiles(ground.folder);
      assert.ok(written.some(({ path }) => path.endsWith("ginnel.db")), "the database is among them");
      for (const { path, bytes } of written) assert.deepEqual(findTexts(bytes, forms), [], path);
      for (const node of [relay.process!, ground.controllers[0]!.process]) {
        assert.deepEqual(forms.filter((form) => node.lines.join("\n").includes(form)), [], node.name);
      }
    },
  );
});

Deno.test("configs and services are made as a client of OpenZiti's API would make them", async () => {
  await using ground = await ControllerGround.create();
  const intercept = await ground.make("/configs", {
    name: "claude-api.intercept",
    type: "intercept.v1",
    data: {
      addresses: ["claude-api.ziti"],
      portRanges: [{ low: 443, high: 443 }],
      protocols: ["tcp"],
    },
  });
  const host = await ground.make("/configs", {
    name: "claude-api.host",
    type: "host.v1",
    data: { address: "localhost", port: 8000, protocol: "tcp" },
  });
  const service = {
    name: "claude-api",
    configs: [intercept.id, host.id],
    encryptionRequired: true,
    roleAttributes: ["claude-services"],
    tags: { team: "ai" },
  };
  const made = await ground.make("/services", service);
  const { status, json } = await ground.api("GET", `/services/${made.id}`);
  assert.equal(status, 200);
  const { id: _id, revision: _revision, createdAt: _made, updatedAt: _changed, ...kept } =
    json as typeof made;
  const { virtualAddresses, ...said } = kept as typeof kept & { virtualAddresses: { ipv4: string } };
  assert.match(virtualAddresses.ipv4, /^10\.101\./);
  assert.deepEqual(said, { ...service, idleTimeout: 120 });
  // Two ids of nothing, and one config twice, are refused with the field that is wrong.
  for (const configs of [[crypto.randomUUID()], [host.id, host.id]]) {
    const refused = await ground.api("POST", "/services", { ...service, name: "other", configs });
    assert.equal(refused.status, 400);
    assert.match(JSON.stringify(refused.json), /"field":"configs\[/);
  }
  assert.equal((await ground.api("POST", "/services", service)).status, 409, "the name is taken");
  assert.equal((await ground.api("DELETE", `/configs/${host.id}`)).status, 409, "in use");
});

/** A controller, a relay, a connector with the application behind it, and two agents. */
interface World extends AsyncDisposable {
  readonly ground: ControllerGround;
  readonly relay: RelayNode & Enrolled;
  readonly connector: ConnectorNode & Enrolled;
  /** Has `#rtmx-users`. */
  readonly alice: AgentNode & Enrolled;
  /** Has it not. */
  readonly mallory: AgentNode & Enrolled;
  readonly app: Application;
}

async function openWorld(): Promise<World> {
  await using stack = new AsyncDisposableStack();
  const ground = stack.use(await ControllerGround.create());
  const app = stack.use(new Application());
  await ground.make("/services", { name: "rtmx-sync" });
  assert.equal(JSON.stringify(JSON.parse(POLICY)), POLICY, "it is sent as it is written");
  await ground.make("/service-policies", JSON.parse(POLICY));
  await ground.make("/service-policies", {
    ...{ name: "rtmx-sync-hosts", type: "Bind", semantic: "AnyOf" },
    ...{ identityRoles: ["#rtmx-hosts"], serviceRoles: ["@rtmx-sync"] },
  });
  const separate = true;
  const relay = await ground.relay({ separate, config: { log: { level: "trace" } } });
  const connector = await ground.connector({
    separate,
    services: { "rtmx-sync": app.upstream },
    roleAttributes: ["rtmx-hosts"],
  });
  const alice = await ground.agent({ separate, forwards: ["rtmx-sync"], roleAttributes: ["rtmx-users"] });
  const mallory = await ground.agent({ name: "mallory", roleAttributes: ["other-users"] });
  const moved = stack.move();
  return { ground, relay, connector, alice, mallory, app, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

/** An ordinary web application, and a count of what reaches it. */
class Application implements AsyncDisposable {
  readonly seen = { connections: 0, bytes: 0 };
  /** Put before each word on a WebSocket. */
  says = "";
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => this.#answer(request),
  );
  readonly #door = Deno.listen({ hostname: "127.0.0.1", port: 0 });

  constructor() {
    void this.#accept();
  }

  get upstream(): string {
    return `tcp://127.0.0.1:${this.#door.addr.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#door.close();
    await this.#server.shutdown();
  }

  async #accept(): Promise<void> {
    for await (const conn of this.#door) {
      this.seen.connections++;
      const inner = await Deno.connect({ hostname: "127.0.0.1", port: this.#server.addr.port });
      const count = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
        transform: (chunk, controller) => {
          this.seen.bytes += chunk.length;
          controller.enqueue(chunk);
        },
      });
      conn.readable.pipeThrough(count).pipeTo(inner.writable).catch(
        () => {/* cut off: its flow was ended */},
      );
      inner.readable.pipeTo(conn.writable).catch(() => {/* cut off: its flow was ended */});
    }
  }

  async #answer(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (request.headers.get("upgrade") === "websocket") {
      const { socket, response } = Deno.upgradeWebSocket(request);
      socket.addEventListener("message", ({ data }) => socket.send(`${this.says}${data}`));
      return response;
    }
    const body = await request.text();
    return new Response(`${request.method} ${pathname}${body === "" ? "" : ` ${body.length}`}`);
  }
}

/** A WebSocket that answers each word with one. */
async function openSocket(url: string) {
  const socket = new WebSocket(url);
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener("open", () => resolve(), { once: true });
    socket.addEventListener("error", () => reject(new Error(`no WebSocket at ${url}`)), { once: true });
  });
  return {
    ask(text: string): Promise<string> {
      const answer = new Promise<string>((resolve) =>
        socket.addEventListener("message", ({ data }) => resolve(data), { once: true })
      );
      socket.send(text);
      return answer;
    },
    async [Symbol.asyncDispose](): Promise<void> {
      const closed = new Promise((resolve) => socket.addEventListener("close", resolve, { once: true }));
      if (socket.readyState === WebSocket.CLOSED) return;
      socket.close();
      await closed;
    },
  };
}

/** At least so many entries of the audit log; relays report theirs a moment later. */
function audit(ground: ControllerGround, query: string, atLeast: number): Promise<readonly AuditEntry[]> {
  return eventually(async () => {
    const { json } = await ground.api("GET", `/audit?${query}`);
    const { data } = json as { readonly data: readonly AuditEntry[] };
    return data.length >= atLeast && data;
  });
}

/** The claims of the first view on a view stream. */
async function firstView(body: ByteChannel): Promise<unknown> {
  const lines = new LineReader();
  for (let chunk = await body.read(); chunk !== null; chunk = await body.read()) {
    for (const line of lines.push(chunk)) {
      const message = JSON.parse(utf8Decode(line));
      if (message.type === "view") return decodeJwt(message.jws);
    }
  }
  throw new Error("the view stream ended without a view");
}

/** Text that occurs nowhere else: random letters, long enough that no form of it is an accident. */
function newMarker(): string {
  return `marker.${[...randomBytes(40)].map((byte) => String.fromCharCode(0x61 + byte % 26)).join("")}.`;
}

/** All files below a folder, sockets aside. */
async function readFiles(folder: string): Promise<{ readonly path: string; readonly bytes: Uint8Array }[]> {
  const files: { path: string; bytes: Uint8Array }[] = [];
  for await (const { name, isDirectory, isFile } of Deno.readDir(folder)) {
    const path = `${folder}/${name}`;
    if (isDirectory) files.push(...await readFiles(path));
    else if (isFile) files.push({ path, bytes: await Deno.readFile(path) });
  }
  return files;
}
