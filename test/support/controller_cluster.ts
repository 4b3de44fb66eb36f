/**
 * Two controllers on one PostgreSQL, each with a relay that follows it first, and somebody who hears what the second one
 * tells its relays.
 */

import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { NetworkFollower } from "../../src/control/sync/follower.ts";
import { loadIdentity } from "../../src/identity/identity_file.ts";
import type { ControllerHttp, ControllerPlace } from "../../src/io/controller/https_client.ts";
import { controllerClient } from "../../src/modes/enrol/controller_client.ts";
import { HttpLink } from "../../src/modes/relay/controller_link/http_link.ts";
import { ControllerGround, type Enrolled } from "./controller_ground.ts";
import { ControllerNode } from "./controller_process.ts";
import { PROGRAM } from "./deployment.ts";
import { eventually } from "./eventually.ts";
import { connectNamed, NamedUpstream } from "./named_upstream.ts";
import type { AgentNode } from "./network.ts";
import { PostgresServer } from "./postgres.ts";
import { runCommand } from "./processes.ts";
import { TcpProxy } from "./tcp_proxy.ts";
import { within } from "./within.ts";

/** Milliseconds after the API's answer in which a change is in force everywhere. */
const LIMIT_MS = 1_000;

/** Two controllers; `relay-1` follows the first, `relay-2` the second; `web` is served by both, to an agent at `relay-2`. */
export class Cluster implements AsyncDisposable {
  readonly postgres: PostgresServer;
  readonly ground: ControllerGround;
  readonly web = new NamedUpstream("web");
  agent!: AgentNode & Enrolled;
  /** Follows the second controller. */
  watcher!: Watcher;
  readonly #stack = new AsyncDisposableStack();
  #relay!: { readonly name: string; readonly port: number };

  static async start(): Promise<Cluster> {
    await using undo = new AsyncDisposableStack();
    const postgres = undo.use(await PostgresServer.start({ isDurable: true }));
    const database = { kind: "postgres", url: await postgres.createDatabase() } as const;
    const ground = undo.use(await ControllerGround.create({ database, controllers: 2 }));
    const cluster = new Cluster(postgres, ground);
    cluster.#stack.use(undo.move());
    try {
      await cluster.#start();
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
    return cluster;
  }

  private constructor(postgres: PostgresServer, ground: ControllerGround) {
    this.postgres = postgres;
    this.ground = ground;
  }

  get first(): ControllerNode {
    return this.ground.controllers[0]!;
  }

  get second(): ControllerNode {
    return this.ground.controllers[1]!;
  }

  /** An agent at the second controller's relay that may dial everything. */
  caller(name: string): Promise<AgentNode & Enrolled> {
    return this.ground.agent({ name, forwards: ["web"], relays: [this.#relay] });
  }

  /** Asks a controller for what it must do. */
  async ask(controller: ControllerNode, method: "POST" | "DELETE", path: string, body?: unknown) {
    const { token } = this.ground;
    const { status, json } = await controller.request({ method, path, token, body });
    assert.ok(status >= 200 && status < 300, `${method} ${path}: ${status} ${JSON.stringify(json)}`);
  }

  /** Waits for what follows from the answer that has just come. */
  async inTime(consequence: () => Promise<unknown>): Promise<void> {
    const processes = this.ground.controllers.filter(({ process }) => process.running);
    await within(LIMIT_MS, consequence, { processes: processes.map(({ process }) => process.pid) });
  }

  /** A flow by the second controller's relay ends in time when one controller disables its caller. */
  async assertCutOff(name: string, { at }: { readonly at: ControllerNode }): Promise<void> {
    const caller = await this.caller(name);
    const { conn } = await eventually(() => connectNamed(caller.forward("web")), { interval: 50 });
    await this.ask(at, "POST", `/identities/${caller.id}/disable`);
    await this.inTime(() => untilReset(conn));
    await caller.stop();
  }

  /** The ids of an identity's open sessions. */
  async sessionsOf({ spiffeId }: Enrolled): Promise<readonly string[]> {
    const path = `/sessions?open=true&identity=${encodeURIComponent(spiffeId)}`;
    return await eventually(async () => {
      const { json } = await this.ground.api("GET", path);
      const { data } = json as { data: readonly { id: string }[] };
      return data.length > 0 && data.map(({ id }) => id);
    });
  }

  /** What an administrator sees of the network. */
  async contents(controller: ControllerNode): Promise<unknown> {
    const kinds = ["identities", "services", "configs", "service-policies", "api-tokens", "ipam/allocations"];
    return await Promise.all(kinds.map(async (kind) => {
      const { token } = this.ground;
      const { status, json } = await controller.request({ path: `/${kind}?limit=500`, token });
      assert.equal(status, 200, kind);
      return json;
    }));
  }

  /** Another controller of the network, on SQLite, that begins with a backup. */
  async restore(backup: string): Promise<ControllerNode> {
    const folder = `${this.ground.folder}/restored`;
    const { name, data } = this.first;
    await Deno.mkdir(`${folder}/${name}`, { recursive: true, mode: 0o700 });
    await runCommand(["cp", "-a", `${data}/ca`, `${folder}/${name}/ca`]);
    const database = { kind: "sqlite" };
    const trustDomain = "test.example";
    const config = { mode: "controller", name, trustDomain, data: `${folder}/${name}`, database };
    await Deno.writeTextFile(`${folder}/restore.json`, JSON.stringify({ ...config, listen: "127.0.0.1:0" }));
    await runCommand([...PROGRAM, "restore", "--config", `${folder}/restore.json`, backup]);
    const controller = new ControllerNode({ name, folder, trustDomain, database });
    await controller.start();
    return controller;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  /** Starts the second controller again, with a way to the database that can be cut. */
  async startBehindProxy(): Promise<TcpProxy> {
    const path = `${this.ground.folder}/database-url`;
    const url = new URL(await Deno.readTextFile(path));
    const proxy = this.#stack.use(new TcpProxy({ hostname: url.hostname, port: Number(url.port) }));
    await Deno.writeTextFile(path, Object.assign(url, { port: String(proxy.port) }).href);
    await this.second.start();
    return proxy;
  }

  async #start(): Promise<void> {
    const { ground, first, second, web } = this;
    this.#stack.use(web);
    await ground.open(["web"]);
    const places = [first, second].map(({ name, url }) => ({ name, url }));
    await ground.relay({ name: "relay-1", config: { controllers: places } });
    this.#relay = await ground.relay({ name: "relay-2", config: { controllers: places.toReversed() } });
    await ground.connector({ services: { web: web.upstream } });
    this.agent = await this.caller("alice");
    this.watcher = this.#stack.use(await Watcher.start(await ground.enrol("relay", "watcher"), [second]));
  }
}

/** Follows controllers as a relay does, and remembers what it was told. */
export class Watcher implements AsyncDisposable {
  /** Whom it follows from the next connection on, the first that answers. */
  places: readonly ControllerPlace[];
  readonly released: string[] = [];
  follower!: NetworkFollower;
  #http!: ControllerHttp;

  static async start({ path }: Enrolled, places: readonly ControllerPlace[]): Promise<Watcher> {
    const watcher = new Watcher(places);
    const identity = await loadIdentity(path);
    const http = controllerClient(() => identity, { controllers: () => watcher.places });
    watcher.#http = http;
    watcher.follower = await NetworkFollower.open({
      link: new HttpLink(http),
      cache: undefined,
      trustDomain: identity.id.trustDomain,
      logger: SILENT_LOGGER,
      now: Date.now,
    });
    watcher.follower.onReleased((client) => void watcher.released.push(client));
    return watcher;
  }

  private constructor(places: readonly ControllerPlace[]) {
    this.places = places;
  }

  knows(service: string): boolean {
    return [...this.follower.state.services.values()].some(({ name }) => name === service);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.follower.close();
    this.#http[Symbol.dispose]();
  }
}

/** Resolves when a flow was reset; closes it. */
export async function untilReset(conn: Deno.TcpConn): Promise<void> {
  await assert.rejects(conn.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
  conn.close();
}
