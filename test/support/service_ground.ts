/**
 * The ground on which services appear on users' machines: hosts `agent1`, `agent2`, `relay1`, `relay2`, `conn1` and
 * `conn2` on one network. The controller is part of the relay on `relay1`; a second relay follows it on request.
 * Upstreams run on the connectors' hosts, where nobody else reaches them.
 */

import assert from "node:assert/strict";
import type { ControllerResponse } from "../../src/io/controller/https_client.ts";
import { type ApiMethod, ControllerNode } from "./controller_process.ts";
import { PROGRAM, RELAY_PORT } from "./deployment.ts";
import { eventually } from "./eventually.ts";
import { enrolDevices, type GroundIdentity, inviteDevice } from "./invited_devices.ts";
import { NamespaceDoor } from "./namespace_door.ts";
import { ManagedProcess } from "./processes.ts";
import { TunnelHosts } from "./tunnel_hosts.ts";

const HOSTS = ["agent1", "agent2", "relay1", "relay2", "conn1", "conn2"] as const;
const CONTROLLER_PORT = 8441;
const TRUST_DOMAIN = "test.example";

/** A host of the ground. */
export type ServiceHost = typeof HOSTS[number];

/** A service to make. */
export interface ServiceInput {
  readonly name: string;
  /** Data of its `intercept.v1`. */
  readonly intercept?: object;
  /** Data of its `host.v1`. */
  readonly host?: object;
  /** Further fields. */
  readonly fields?: object;
}

/** What a ground starts with. */
export interface ServiceGroundOptions {
  /** Further fields of the controller's settings. */
  readonly controller?: Readonly<Record<string, unknown>>;
  /** Further fields of the config of the relay that the controller is part of. */
  readonly relay?: Readonly<Record<string, unknown>>;
  /** Runs agents and connectors with another program, such as a compiled binary. */
  readonly program?: readonly string[];
  /** What every node logs; `debug` when absent. */
  readonly logLevel?: "info" | "debug";
}

/** Hosts and the nodes on them; disposing it removes everything. */
export class ServiceGround implements AsyncDisposable {
  readonly folder: string;
  readonly hosts: TunnelHosts<ServiceHost>;
  readonly controller: ControllerNode;
  readonly #program: readonly string[];
  readonly #log: object;
  readonly #identities = new Map<string, GroundIdentity>();
  readonly #nodes: ManagedProcess[] = [];
  #token = "";
  #everything: AsyncDisposable | undefined;

  private constructor(parts: {
    readonly folder: string;
    readonly hosts: TunnelHosts<ServiceHost>;
    readonly controller: ControllerNode;
    readonly program: readonly string[];
    readonly log: object;
  }) {
    this.folder = parts.folder;
    this.hosts = parts.hosts;
    this.controller = parts.controller;
    this.#program = parts.program;
    this.#log = parts.log;
  }

  /** Makes the hosts and starts the relay with the controller. There is neither service nor policy yet. */
  static async create(
    { controller: config = {}, relay = {}, program = PROGRAM, logLevel = "debug" }: ServiceGroundOptions = {},
  ): Promise<ServiceGround> {
    await using undo = new AsyncDisposableStack();
    const folder = await Deno.makeTempDir({ prefix: "ginnel-services-" });
    undo.defer(() => Deno.remove(folder, { recursive: true }));
    const hosts = undo.use(await TunnelHosts.create(HOSTS, folder));
    const door = undo.use(
      await NamespaceDoor.open((command) => hosts.spawn("relay1", command), {
        path: `${folder}/door.sock`,
        port: CONTROLLER_PORT,
      }),
    );
    const { address } = hosts.host("relay1");
    const log = { level: logLevel };
    const controller = new ControllerNode({
      name: "controller-1",
      folder,
      trustDomain: TRUST_DOMAIN,
      database: { kind: "sqlite" },
      config,
      relay: {
        mode: "relay",
        name: "relay-1",
        advertise: `${address}:${RELAY_PORT}`,
        ...relayFields(folder, 1),
        log,
        ...relay,
      },
      place: {
        address,
        port: CONTROLLER_PORT,
        door: door.port,
        command: (command) => hosts.command("relay1", command),
      },
    });
    undo.use(controller);
    const ground = new ServiceGround({ folder, hosts, controller, program, log });
    undo.defer(() => ground.#stop());
    await controller.start();
    ground.#token = await controller.bootstrapToken();
    ground.#token = String((await ground.make("/api-tokens", { name: "ground", role: "admin" })).token);
    ground.#everything = undo.move();
    return ground;
  }

  /** Asks the API as an administrator. */
  api(method: ApiMethod, path: string, body?: unknown): Promise<ControllerResponse> {
    const given = body === undefined ? {} : { body };
    return this.controller.request({ method, path, token: this.#token, ...given });
  }

  /** Makes a resource and returns it; fails unless it was made. */
  async make(
    path: string,
    body: unknown,
  ): Promise<{ readonly id: string; readonly [field: string]: unknown }> {
    const { status, json } = await this.api("POST", path, body);
    assert.ok(status === 201, `POST ${path} answered ${status}: ${JSON.stringify(json)}`);
    return json as { id: string };
  }

  /** Removes a resource. */
  async remove(path: string): Promise<void> {
    await this.#change("DELETE", path);
  }

  /** Changes some fields of a resource. */
  async edit(path: string, body: unknown): Promise<void> {
    await this.#change("PATCH", path, body);
  }

  /** Makes a service with its configs; returns its id. */
  async service({ name, intercept, host, fields = {} }: ServiceInput): Promise<string> {
    const configs: string[] = [];
    for (const [type, data] of [["intercept.v1", intercept], ["host.v1", host]] as const) {
      if (data !== undefined) {
        configs.push((await this.make("/configs", { name: `${name} ${type}`, type, data })).id);
      }
    }
    return (await this.make("/services", { name, configs, ...fields })).id;
  }

  /** Lets identities Dial or Bind services; returns the policy's id. */
  async allow(
    type: "Dial" | "Bind",
    identityRoles: readonly string[] = ["#all"],
    serviceRoles: readonly string[] = ["#all"],
  ): Promise<string> {
    const name = `${type} ${identityRoles} ${serviceRoles}`;
    const roles = { identityRoles, serviceRoles };
    return (await this.make("/service-policies", { name, type, semantic: "AnyOf", ...roles })).id;
  }

  /** The identity of that name, enrolled when it is first asked for. */
  async identity(
    kind: "relay" | "connector" | "agent",
    name: string,
    fields: object = {},
  ): Promise<GroundIdentity> {
    const known = this.#identities.get(name);
    if (known !== undefined) return known;
    const { folder } = this;
    const invited = await inviteDevice((path, body) => this.make(path, body), { kind, name, folder, fields });
    await enrolDevices((command) => this.run("relay1", command), [invited]);
    this.#identities.set(name, invited);
    return invited;
  }

  /** Starts the second relay, `relay-2`; resolves when it serves. */
  async startRelay2(): Promise<ManagedProcess> {
    const address = `${this.hosts.host("relay2").address}:${RELAY_PORT}`;
    const { path } = await this.identity("relay", "relay-2", { address });
    const relay = await this.start("relay2", "relay-2", {
      mode: "relay",
      identity: path,
      ...relayFields(this.folder, 2),
    });
    await relay.waitForLine(/"relay_started"/, { timeoutMs: 30_000 });
    return relay;
  }

  /** Starts a connector; resolves when it has bound all of `config.services` at `relays`. */
  async startConnector(
    host: "conn1" | "conn2",
    config: Readonly<Record<string, unknown>>,
    { relays = ["relay-1"], name = host.replace("conn", "connector-") }: {
      readonly relays?: readonly string[];
      readonly name?: string;
    } = {},
  ): Promise<ManagedProcess> {
    const { path } = await this.identity("connector", name);
    const connector = await this.start(host, name, { mode: "connector", identity: path, ...config });
    const services = (config.services ?? []) as readonly { readonly name: string }[];
    for (const relay of relays) {
      for (const service of services) {
        const line = new RegExp(`"service_bound".*"relay":"${relay}","service":"${service.name}"`);
        await connector.waitForLine(line, { timeoutMs: 30_000 });
      }
    }
    return connector;
  }

  /** Starts an agent; resolves when it is connected. Without a config it is what `ginnel enroll` leaves behind. */
  async startAgent(
    host: "agent1" | "agent2",
    config: Readonly<Record<string, unknown>> = {},
    { name = host.replace("agent", "agent-"), prefix = [] }: {
      readonly name?: string;
      /** What stands in front of its command line, such as `setpriv` with its options. */
      readonly prefix?: readonly string[];
    } = {},
  ): Promise<ManagedProcess> {
    const { path } = await this.identity("agent", name);
    const agent = await this.start(host, name, { mode: "agent", identity: path, ...config }, prefix);
    await agent.waitForLine(/"relay_connected"/, { timeoutMs: 30_000 });
    return agent;
  }

  /** Runs a command on a host to its end, failing with its output. */
  run(name: ServiceHost, command: readonly string[]): Promise<string> {
    return this.hosts.run(name, command);
  }

  /** As {@linkcode run}, again and again until it succeeds. */
  eventually(name: ServiceHost, command: readonly string[], options: { readonly timeout?: number } = {}) {
    return eventually(() => this.run(name, command), { interval: 50, ...options });
  }

  /** Starts a command on a host; it ends with the ground at the latest. */
  spawn(name: ServiceHost, command: readonly string[]): ManagedProcess {
    return this.hosts.spawn(name, command);
  }

  /** Starts a node with a config of its own. */
  async start(
    host: ServiceHost,
    name: string,
    config: object,
    prefix: readonly string[] = [],
  ): Promise<ManagedProcess> {
    const path = `${this.folder}/${name}.config.json`;
    await Deno.writeTextFile(path, JSON.stringify({ ...config, log: this.#log }, undefined, 2));
    const command = this.hosts.command(host, [...prefix, ...this.#program, "run", "--config", path]);
    const node = ManagedProcess.spawn(command, { name: `${name} on ${host}` });
    this.#nodes.push(node);
    return node;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#everything?.[Symbol.asyncDispose]();
  }

  async #change(method: ApiMethod, path: string, body?: unknown): Promise<void> {
    const current = await this.api("GET", path);
    const { status, json } = await this.controller.request({
      method,
      path,
      token: this.#token,
      headers: { "if-match": String(current.headers.etag) },
      ...(body === undefined ? {} : { body }),
    });
    assert.ok(
      status === 200 || status === 204,
      `${method} ${path} answered ${status}: ${JSON.stringify(json)}`,
    );
  }

  async #stop(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.stop({ signal: "SIGINT", graceMs: 5_000 })));
  }
}

function relayFields(folder: string, number: 1 | 2): Record<string, unknown> {
  return {
    data: `${folder}/relay-${number}.data`,
    audit: { file: `${folder}/relay-${number}.audit.jsonl` },
    listen: { quic: `0.0.0.0:${RELAY_PORT}`, tls: `0.0.0.0:${RELAY_PORT}` },
    health: null,
    drainSeconds: 1,
  };
}
