/**
 * The ground on which relays with tunnels follow a controller: hosts `agent1`, `agent2`, `relay1` to `relay3`, `control`
 * and `internet` on one network, dual stack. The internet sees by the source of what comes which relay it came through.
 */

import assert from "node:assert/strict";
import type { ControllerResponse } from "../../src/io/controller/https_client.ts";
import { type ApiMethod, ControllerNode } from "./controller_process.ts";
import { PROGRAM, RELAY_PORT } from "./deployment.ts";
import { enrolDevices, type GroundIdentity, type InvitedDevice, inviteDevice } from "./invited_devices.ts";
import { NamespaceDoor } from "./namespace_door.ts";
import { ManagedProcess } from "./processes.ts";
import type { RogueGround } from "./rogue.ts";
import { type EgressSource, OPEN_EGRESS } from "./tunnel_ground.ts";
import { TUNNEL_INTERFACE, TunnelHosts } from "./tunnel_hosts.ts";

const HOSTS = ["agent1", "agent2", "relay1", "relay2", "relay3", "control", "internet"] as const;
const RELAYS = ["relay1", "relay2", "relay3"] as const;
const CONTROLLER_PORT = 8441;

/** A host of the ground. */
export type ControlHost = typeof HOSTS[number];
/** A relay's host; the relay is `relay-1` on `relay1`. */
export type RelayHost = typeof RELAYS[number];

/** What a ground starts with. */
export interface ControlTunnelOptions {
  /** The `tunnel` of the controller's config: pools and reservations. */
  readonly tunnel?: Readonly<Record<string, unknown>>;
  /** Egress policy, active from the start; null: none. Default: every agent may go anywhere in the internet. */
  readonly egress?: EgressSource | null;
  /** Names of agents to enrol at once; others are when they are asked for. */
  readonly agents?: readonly string[];
}

/** A version of an egress policy as the API shows it. */
export interface PolicyVersion {
  readonly id: string;
  readonly version: string;
  readonly active: boolean;
}

/** Controller, relays and agents; disposing it removes everything. */
export class ControlTunnelGround implements RogueGround<ControlHost>, AsyncDisposable {
  readonly folder: string;
  readonly hosts: TunnelHosts<ControlHost>;
  readonly #door: NamespaceDoor;
  readonly #identities = new Map<string, Promise<GroundIdentity>>();
  readonly #nodes: ManagedProcess[] = [];
  readonly #relays = new Map<RelayHost, ManagedProcess>();
  #controller: ControllerNode;
  #token = "";
  /** What is to be stopped and removed. */
  #everything: AsyncDisposable | undefined;

  private constructor(parts: {
    readonly folder: string;
    readonly hosts: TunnelHosts<ControlHost>;
    readonly door: NamespaceDoor;
    readonly controller: ControllerNode;
  }) {
    this.folder = parts.folder;
    this.hosts = parts.hosts;
    this.#door = parts.door;
    this.#controller = parts.controller;
  }

  /** Makes the hosts and starts the internet, the controller and three relays. */
  static async create(options: ControlTunnelOptions = {}): Promise<ControlTunnelGround> {
    const { tunnel = {}, egress = OPEN_EGRESS, agents = [] } = options;
    await using undo = new AsyncDisposableStack();
    const folder = await Deno.makeTempDir({ prefix: "ginnel-control-tunnel-" });
    undo.defer(() => Deno.remove(folder, { recursive: true }));
    const hosts = undo.use(await TunnelHosts.create(HOSTS, folder));
    const path = `${folder}/door.sock`;
    const door = undo.use(
      await NamespaceDoor.open((command) => hosts.spawn("control", command), { path, port: CONTROLLER_PORT }),
    );
    const controller = makeController({ folder, hosts, door }, tunnel);
    const ground = new ControlTunnelGround({ folder, hosts, door, controller });
    undo.defer(() => ground.#stop());
    for (const name of HOSTS.filter((name) => name !== "internet" && name !== "control")) {
      await hosts.configure(name, [
        `route add default via ${hosts.host("internet").address}`,
        `route add ::/0 via ${hosts.address6("internet")}`,
      ]);
    }
    await Promise.all([hosts.startInternet("internet"), controller.start()]);
    ground.#token = await controller.bootstrapToken();
    ground.#token = String((await ground.make("/api-tokens", { name: "ground", role: "admin" })).token);
    if (egress !== null) await ground.enforce(egress);
    await ground.#enrolAll(agents);
    await Promise.all(RELAYS.map((host) => ground.startRelay(host)));
    ground.#everything = undo.move();
    return ground;
  }

  /** The controller's process can be killed and started again. */
  get controller(): ControllerNode {
    return this.#controller;
  }

  get relayAddress(): string {
    return this.at("relay1").address;
  }

  /** A relay by its host, as those need it who dial it. */
  at(host: RelayHost): { readonly relay: string; readonly address: string } {
    return { relay: relayName(host), address: `${this.hosts.host(host).address}:${RELAY_PORT}` };
  }

  /** The relay's process that was started last. */
  relay(host: RelayHost): ManagedProcess {
    return this.#relays.get(host)!;
  }

  /** Asks the API as an administrator. */
  api(method: ApiMethod, path: string, body?: unknown): Promise<ControllerResponse> {
    return this.#controller.request({
      method,
      path,
      token: this.#token,
      ...(body === undefined ? {} : { body }),
    });
  }

  /** Makes a resource and returns it; fails unless it was made. */
  async make<T extends { readonly id: string; readonly [field: string]: unknown }>(
    path: string,
    body: unknown,
  ): Promise<T> {
    const { status, json } = await this.api("POST", path, body);
    assert.ok(status === 201, `POST ${path} answered ${status}: ${JSON.stringify(json)}`);
    return json as T;
  }

  /** Makes an egress policy and activates it. */
  async enforce(document: EgressSource, name = "egress"): Promise<PolicyVersion> {
    const policy = await this.make<PolicyVersion & { readonly [field: string]: unknown }>("/policies", {
      name,
      document,
    });
    return await this.activate(policy.id);
  }

  /** Activates a version of an egress policy. */
  async activate(id: string): Promise<PolicyVersion> {
    const { status, json } = await this.api("POST", `/policies/${id}/activate`);
    assert.equal(status, 200, JSON.stringify(json));
    return json as PolicyVersion;
  }

  async identity(name: string): Promise<string> {
    return (await this.agent(name)).path;
  }

  /** The agent of that name, enrolled when it is first asked for. */
  agent(name: string): Promise<GroundIdentity> {
    const known = this.#identities.get(name) ?? this.#invite("agent", name).then(async (invited) => {
      await this.#enrol([invited]);
      return invited;
    });
    this.#identities.set(name, known);
    return known;
  }

  /** Starts a relay where it was; resolves when it serves and its tunnel interface is up. */
  async startRelay(host: RelayHost): Promise<ManagedProcess> {
    const name = relayName(host);
    const { path } = await this.#identities.get(name)!;
    const relay = await this.#start(host, name, {
      mode: "relay",
      identity: path,
      data: `${this.folder}/${name}.data`,
      audit: { file: `${this.folder}/${name}.audit.jsonl` },
      listen: { quic: `0.0.0.0:${RELAY_PORT}`, tls: `0.0.0.0:${RELAY_PORT}` },
      health: null,
      drainSeconds: 1,
      tunnel: { interface: TUNNEL_INTERFACE },
    });
    this.#relays.set(host, relay);
    await relay.waitForLine(/"relay_started"/, { timeoutMs: 30_000 });
    await this.hosts.untilUp(host, relay);
    return relay;
  }

  /** Starts an agent that tunnels to one relay; resolves when its tunnel carries packets. */
  async startAgent(
    host: "agent1" | "agent2",
    options: {
      readonly name: string;
      readonly relay: RelayHost;
      /** Further fields of its `tunnel` config. */
      readonly tunnel?: Readonly<Record<string, unknown>>;
    },
  ): Promise<ManagedProcess> {
    const { name, relay, tunnel = {} } = options;
    const agent = await this.#start(host, name, {
      mode: "agent",
      identity: await this.identity(name),
      tunnel: { interface: TUNNEL_INTERFACE, relay: relayName(relay), ...tunnel },
    });
    await agent.waitForLine(/"tunnel_up"/, { timeoutMs: 30_000 });
    return agent;
  }

  /** Stops the controller, and starts it with other tunnel settings. */
  async restartController(tunnel: Readonly<Record<string, unknown>>): Promise<void> {
    await this.#controller[Symbol.asyncDispose]();
    const { folder, hosts } = this;
    this.#controller = makeController({ folder, hosts, door: this.#door }, tunnel);
    await this.#controller.start();
  }

  /** Addresses of the tunnel interface on a host. */
  tunnelAddresses(name: ControlHost): Promise<string[]> {
    return this.hosts.tunnelAddresses(name);
  }

  run(name: ControlHost, command: readonly string[]): Promise<string> {
    return this.hosts.run(name, command);
  }

  spawn(name: ControlHost, command: readonly string[]): ManagedProcess {
    return this.hosts.spawn(name, command);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#everything?.[Symbol.asyncDispose]();
  }

  async #stop(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.stop({ signal: "SIGINT", graceMs: 3_000 })));
    await this.#controller[Symbol.asyncDispose]();
  }

  /** Enrols the relays, and agents beside them, in one process. */
  async #enrolAll(agents: readonly string[]): Promise<void> {
    const invited = await Promise.all([
      ...RELAYS.map((host) => this.#invite("relay", relayName(host), { address: this.at(host).address })),
      ...agents.map((name) => this.#invite("agent", name)),
    ]);
    const enrolled = this.#enrol(invited);
    for (const identity of invited) {
      this.#identities.set(identity.name, enrolled.then(() => identity));
    }
    await enrolled;
  }

  #invite(kind: "relay" | "agent", name: string, fields: object = {}): Promise<InvitedDevice> {
    const { folder } = this;
    return inviteDevice((path, body) => this.make(path, body), { kind, name, folder, fields });
  }

  #enrol(invited: readonly InvitedDevice[]): Promise<void> {
    return enrolDevices((command) => this.run("control", command), invited);
  }

  async #start(host: ControlHost, name: string, config: object): Promise<ManagedProcess> {
    const path = `${this.folder}/${name}.config.json`;
    await Deno.writeTextFile(path, JSON.stringify({ ...config, log: { level: "debug" } }, undefined, 2));
    const command = this.hosts.command(host, [...PROGRAM, "run", "--config", path]);
    const node = ManagedProcess.spawn(command, { name: `${name} on ${host}` });
    this.#nodes.push(node);
    return node;
  }
}

function makeController(
  parts: {
    readonly folder: string;
    readonly hosts: TunnelHosts<ControlHost>;
    readonly door: NamespaceDoor;
  },
  tunnel: Readonly<Record<string, unknown>>,
): ControllerNode {
  const { folder, hosts, door } = parts;
  return new ControllerNode({
    name: "controller-1",
    folder,
    trustDomain: "test.example",
    database: { kind: "sqlite" },
    config: { tunnel },
    place: {
      address: hosts.host("control").address,
      port: CONTROLLER_PORT,
      door: door.port,
      command: (command) => hosts.command("control", command),
    },
  });
}

function relayName(host: RelayHost): string {
  return host.replace("relay", "relay-");
}
