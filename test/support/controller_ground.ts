/**
 * A whole network with controllers on loopback, as an administrator sets it up: controllers are processes of the real
 * program on SQLite or PostgreSQL, resources are made through the API, and every node is enrolled by `ginnel enroll`
 * before it starts. Disposing it stops and removes everything.
 */

import assert from "node:assert/strict";
import { caPaths } from "../../src/identity/ca_directory.ts";
import { enrollCommand } from "../../src/cli/enroll.ts";
import type { ControllerResponse } from "../../src/io/controller/https_client.ts";
import { writeSecretFile } from "../../src/identity/secret_file.ts";
import { type ApiMethod, type ApiRequest, ControllerNode } from "./controller_process.ts";
import { PROGRAM } from "./deployment.ts";
import { eventually } from "./eventually.ts";
import { freePort } from "./free_port.ts";
import {
  type AgentNode,
  type AgentOptions,
  type ConnectorNode,
  localPorts,
  type NodeOptions,
  readAudit,
  type RelayNode,
  type RelayOptions,
  type RelayPlace,
} from "./network.ts";
import { type NetworkNode, processNode, runInProcess } from "./network_node.ts";
import { ManagedProcess } from "./processes.ts";

/** What a ground begins with. */
export interface GroundOptions {
  /** Default: SQLite in the controller's folder. */
  readonly database?: { readonly kind: "sqlite" } | { readonly kind: "postgres"; readonly url: string };
  /** Controllers that share the database; more than one needs PostgreSQL. Default 1. */
  readonly controllers?: number;
  /** The one controller is part of a relay, {@linkcode ControllerGround.embedded}. */
  readonly embedded?: boolean;
  /** Fields that replace those of every controller's config. */
  readonly config?: Readonly<Record<string, unknown>>;
}

/** An identity with its file. */
export interface Enrolled {
  /** Resource id. */
  readonly id: string;
  readonly spiffeId: string;
  /** Its identity file. */
  readonly path: string;
}

/** What may be said of an identity to make. */
export interface EnrolOptions {
  readonly roleAttributes?: readonly string[];
  /** Of a relay. */
  readonly address?: string;
}

/** How to run a node of this ground: relays are found by themselves. */
export interface GroundNodeOptions extends NodeOptions {
  readonly roleAttributes?: readonly string[];
  /** Runs as this identity, with a copy of its file, instead of enrolling another one. */
  readonly identity?: Enrolled;
  /** Keeps to these relays, whatever the network lists. */
  readonly relays?: readonly RelayPlace[];
}

/** Trust domain of every ground. */
const TRUST_DOMAIN = "test.example";

/** Controllers and the network they make. */
export class ControllerGround implements AsyncDisposable {
  readonly folder: string;
  readonly controllers: ControllerNode[] = [];
  /** The relay that the first controller is part of. */
  readonly embedded: { readonly name: string; readonly port: number } | undefined;
  readonly #nodes: NetworkNode[] = [];
  readonly #relays = new Map<string, number>();
  #token: string | undefined;

  /** Starts the controllers; there is nothing in the network yet but them, and the embedding relay. */
  static async create(options: GroundOptions = {}): Promise<ControllerGround> {
    const folder = await Deno.makeTempDir({ prefix: "ginnel-ground-" });
    const ground = new ControllerGround(folder, options.embedded === true);
    try {
      await ground.#startControllers(options);
    } catch (error) {
      await ground[Symbol.asyncDispose]();
      throw error;
    }
    return ground;
  }

  private constructor(folder: string, isEmbedded: boolean) {
    this.folder = folder;
    this.embedded = isEmbedded ? { name: "relay-1", port: freePort() } : undefined;
    if (this.embedded !== undefined) this.#relays.set(this.embedded.name, this.embedded.port);
  }

  /** An administrator's API token. */
  get token(): string {
    assert.ok(this.#token !== undefined, "no controller was started");
    return this.#token;
  }

  /** The network's CA certificates, PEM. */
  async roots(): Promise<readonly string[]> {
    return [await Deno.readTextFile(caPaths(`${this.controllers[0]!.data}/ca`).certificate)];
  }

  /** Asks the first controller that runs, with {@linkcode token} unless another is given. */
  api(
    method: ApiMethod,
    path: string,
    body?: unknown,
    options: Pick<ApiRequest, "token" | "headers"> = {},
  ): Promise<ControllerResponse> {
    const controller = this.controllers.find(({ process }) => process.running);
    assert.ok(controller !== undefined, "no controller runs");
    return controller.request({
      method,
      path,
      token: this.#token,
      ...(body === undefined ? {} : { body }),
      ...options,
    });
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

  /** Makes services and the policies by which everybody may dial and bind all of them. */
  async open(services: readonly string[] = ["web"]): Promise<void> {
    for (const name of services) await this.make("/services", { name });
    for (const type of ["Dial", "Bind"]) {
      await this.make("/service-policies", {
        name: `all-${type.toLowerCase()}`,
        type,
        semantic: "AnyOf",
        identityRoles: ["#all"],
        serviceRoles: ["#all"],
      });
    }
  }

  /** Makes an identity and a one-time token for it. */
  async invite(
    kind: "relay" | "connector" | "agent",
    name: string,
    options: EnrolOptions = {},
  ): Promise<{ readonly id: string; readonly spiffeId: string; readonly token: string }> {
    const made = await this.make("/identities", { name, type: kind, ...options });
    const { token } = await this.make(`/identities/${made.id}/enrolments`, {});
    return { id: made.id, spiffeId: String(made.spiffeId), token: String(token) };
  }

  /** Makes an identity and enrols it as the command line does, in this process. */
  async enrol(
    kind: "relay" | "connector" | "agent",
    name: string,
    options: EnrolOptions = {},
  ): Promise<Enrolled> {
    const { id, spiffeId, token } = await this.invite(kind, name, options);
    const path = `${this.folder}/${name}.identity.json`;
    await writeSecretFile(`${this.folder}/${name}.token`, token);
    let said = "";
    const code = await enrollCommand(["--token-file", `${this.folder}/${name}.token`, "-o", path], {
      stdout: () => {},
      stderr: (text) => void (said += text),
      isTerminal: false,
    });
    if (code !== 0) throw new Error(`Cannot enrol ${name}: ${said}`);
    return { id, spiffeId, path };
  }

  /** Enrols and starts a relay that follows the controllers; resolves when it serves. */
  async relay(options: RelayOptions & GroundNodeOptions = {}): Promise<RelayNode & Enrolled> {
    const { name = `relay-${this.#relays.size + 1}`, port = freePort(), config = {} } = options;
    const enrolled = await this.#identity("relay", name, { address: `127.0.0.1:${port}`, ...options });
    const audit = `${this.folder}/${name}.audit.jsonl`;
    const { node, process } = await this.#start(name, {
      mode: "relay",
      identity: enrolled.path,
      data: `${this.folder}/${name}.data`,
      audit: { file: audit },
      ...relayConfig(port),
      ...config,
    }, options);
    await node.waitForLine(/"relay_started"/, { timeoutMs: 30_000 });
    const [, health] = await node.waitForLine(/"health_listening","address":"([^"]+)"/);
    this.#relays.set(name, port);
    return Object.assign(node, {
      ...enrolled,
      port,
      health: `http://${health}`,
      process,
      audit: () => readAudit(audit),
    });
  }

  /** Enrols and starts a connector; resolves when every relay has bound its services. */
  async connector(
    options: GroundNodeOptions & {
      /** Upstream of each service. */
      readonly services: Readonly<Record<string, string>>;
      readonly untilBound?: boolean;
    },
  ): Promise<ConnectorNode & Enrolled> {
    const { name = "connector-1", services, config = {}, untilBound = true } = options;
    const enrolled = await this.#identity("connector", name, options);
    const { node, process } = await this.#start(name, {
      mode: "connector",
      identity: enrolled.path,
      services: Object.entries(services).map(([name, upstream]) => ({ name, upstream })),
      control: `unix:${this.folder}/${name}.sock`,
      ...nodeConfig(),
      ...pinned(options),
      ...config,
    }, options);
    for (const relay of untilBound ? this.#relaysOf(options) : []) {
      for (const service of Object.keys(services)) {
        await node.waitForLine(new RegExp(`"service_bound".*"relay":"${relay}","service":"${service}"`));
      }
    }
    return Object.assign(node, { ...enrolled, process });
  }

  /** Enrols and starts an agent with SOCKS5 and HTTP proxies; resolves when it is connected to every relay. */
  async agent(
    options: GroundNodeOptions & Omit<AgentOptions, "relays"> = {},
  ): Promise<AgentNode & Enrolled> {
    const { name = "alice", forwards = [], config = {}, untilConnected = true } = options;
    const enrolled = await this.#identity("agent", name, options);
    const { node, process } = await this.#start(name, {
      mode: "agent",
      identity: enrolled.path,
      forwards: forwards.map((service) => ({ listen: `127.0.0.1:${freePort()}`, service })),
      socks5: "127.0.0.1:0",
      httpProxy: "127.0.0.1:0",
      control: null,
      ...nodeConfig(),
      ...pinned(options),
      ...config,
    }, options);
    for (const relay of untilConnected ? this.#relaysOf(options) : []) {
      await node.waitForLine(new RegExp(`"relay_connected".*"relay":"${relay}"`));
    }
    return Object.assign(node, { ...enrolled, process, ...await localPorts(node, forwards) });
  }

  /** Starts a node that has stopped, or was killed, where it was. */
  async startAgain(
    name: string,
    { separate = false }: Pick<NodeOptions, "separate"> = {},
  ): Promise<{ readonly node: NetworkNode; readonly process: ManagedProcess | undefined }> {
    const path = this.#configPath(name);
    const process = separate
      ? ManagedProcess.spawn([...PROGRAM, "run", "--config", path], { name })
      : undefined;
    const node = process === undefined ? await runInProcess(name, path) : processNode(process);
    this.#nodes.push(node);
    return { node, process };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const node of this.#nodes.reverse()) await node.stop();
    await Promise.all(this.controllers.map((controller) => controller[Symbol.asyncDispose]()));
    await Deno.remove(this.folder, { recursive: true });
  }

  async #startControllers({ database, controllers = 1, config = {} }: GroundOptions): Promise<void> {
    const { folder, embedded } = this;
    const location = await this.#database(database);
    for (let n = 1; n <= controllers; n++) {
      this.controllers.push(
        new ControllerNode({
          name: `controller-${n}`,
          folder,
          trustDomain: TRUST_DOMAIN,
          database: location,
          config,
          ...(embedded !== undefined && { relay: this.#embeddingRelay(embedded) }),
        }),
      );
    }
    for (const controller of this.controllers) {
      const others = this.controllers.filter((other) => other !== controller);
      controller.setPeers(others.map(({ name, url }) => ({ name, url })));
      const [first] = this.controllers;
      // One network has one CA: an administrator copies it to every further controller.
      if (controller !== first) await copyFolder(`${first!.data}/ca`, `${controller.data}/ca`);
      await controller.start();
      if (controller === first) this.#token = await this.#firstToken(controller);
    }
    if (embedded !== undefined) await this.#untilListed(embedded.name);
  }

  /** Turns the bootstrap token, which is void once there is another administrator, into a token that lasts. */
  async #firstToken(controller: ControllerNode): Promise<string> {
    this.#token = await controller.bootstrapToken();
    return String((await this.make("/api-tokens", { name: "ground", role: "admin" })).token);
  }

  async #database(database: GroundOptions["database"]): Promise<Record<string, unknown>> {
    if (database?.kind !== "postgres") return { kind: "sqlite" };
    const urlFile = `${this.folder}/database-url`;
    await writeSecretFile(urlFile, database.url);
    return { kind: "postgres", urlFile };
  }

  #embeddingRelay({ name, port }: { readonly name: string; readonly port: number }): Record<string, unknown> {
    return {
      mode: "relay",
      name,
      data: `${this.folder}/${name}.data`,
      audit: { file: `${this.folder}/${name}.audit.jsonl` },
      ...relayConfig(port),
    };
  }

  /** Waits until an identity of that name is there: nodes enrolled before would not be told of the relay. */
  async #untilListed(name: string): Promise<void> {
    await eventually(async () => {
      const { json } = await this.api("GET", `/identities?name=${name}`);
      return (json as { data: readonly unknown[] }).data.length === 1;
    });
  }

  /** The identity a node runs as. */
  async #identity(
    kind: "relay" | "connector" | "agent",
    name: string,
    { identity, roleAttributes = [], address }: GroundNodeOptions & { readonly address?: string },
  ): Promise<Enrolled> {
    const shared = { roleAttributes, ...(address === undefined ? {} : { address }) };
    if (identity === undefined) return await this.enrol(kind, name, shared);
    const path = `${this.folder}/${name}.identity.json`;
    // Two nodes that run as one identity each keep their own file, as on two machines.
    if (path !== identity.path) await writeSecretFile(path, await Deno.readTextFile(identity.path));
    return { ...identity, path };
  }

  /** Names of the relays a node goes to. */
  #relaysOf({ relays }: GroundNodeOptions): readonly string[] {
    return relays?.map(({ name }) => name) ?? [...this.#relays.keys()];
  }

  async #start(
    name: string,
    config: Readonly<Record<string, unknown>>,
    options: NodeOptions,
  ): Promise<{ node: NetworkNode; process: ManagedProcess | undefined }> {
    await Deno.writeTextFile(this.#configPath(name), JSON.stringify(config, undefined, 2));
    return await this.startAgain(name, options);
  }

  #configPath(name: string): string {
    return `${this.folder}/${name}.config.json`;
  }
}

function relayConfig(port: number): Record<string, unknown> {
  return {
    listen: { quic: `127.0.0.1:${port}`, tls: `127.0.0.1:${port}` },
    advertise: `127.0.0.1:${port}`,
    health: "127.0.0.1:0",
    drainSeconds: 1,
    ...nodeConfig(),
  };
}

/** The relays of a config; none where those that the network lists are meant. */
function pinned({ relays }: GroundNodeOptions): Record<string, unknown> {
  return relays === undefined
    ? {}
    : { relays: relays.map(({ name, port }) => ({ name, address: `127.0.0.1:${port}` })) };
}

function nodeConfig(): Record<string, unknown> {
  return { log: { level: "debug" } };
}

/** Copies a folder without folders in it, and keeps that only its owner can read it. */
async function copyFolder(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true, mode: 0o700 });
  for await (const { name, isFile } of Deno.readDir(from)) {
    if (!isFile) continue;
    await Deno.copyFile(`${from}/${name}`, `${to}/${name}`);
    await Deno.chmod(`${to}/${name}`, (await Deno.stat(`${from}/${name}`)).mode! & 0o777);
  }
}
