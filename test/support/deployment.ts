/**
 * A complete Ginnel network in a temporary folder, run as separate processes of the real program: CA, identity
 * files, policy and configs are written as an operator would, and each node is started from its config file.
 */

import { createCaDirectory, type OpenCa } from "../../src/identity/ca_directory.ts";
import { issueIdentity } from "../../src/identity/issue_identity.ts";
import { writeSecretFile } from "../../src/identity/secret_file.ts";
import type { IdentityKind } from "../../src/identity/spiffe_id.ts";
import { ManagedProcess } from "./processes.ts";

/** The name every deployment's only relay has. */
export const RELAY_NAME = "relay-1";
/** The port, UDP and TCP, on which it listens unless its config says otherwise. */
export const RELAY_PORT = 4433;

/** The command line that runs the program, without its arguments. */
export const PROGRAM: readonly string[] = [
  Deno.execPath(),
  "run",
  "--quiet",
  "--allow-all",
  "--unstable-net",
  new URL("../../main.ts", import.meta.url).pathname,
];

/** A service and what may be done with it: every agent may dial it, every connector may bind it. */
export interface DeploymentService {
  readonly name: string;
  readonly endToEnd?: "required" | "optional";
}

/** What a deployment consists of. */
export interface DeploymentOptions {
  readonly services: readonly DeploymentService[];
  /** Runs nodes with another program, such as a compiled binary; default {@linkcode PROGRAM}. */
  readonly program?: readonly string[];
}

/** Where and how to start one node. */
export interface StartOptions {
  /** Turns the command line into one that runs elsewhere, such as in a namespace. */
  readonly wrap?: (command: readonly string[]) => readonly string[];
}

/** Files and running nodes of one network; disposing it stops the nodes and removes the files. */
export class Deployment implements AsyncDisposable {
  readonly folder: string;
  readonly #ca: OpenCa;
  readonly #program: readonly string[];
  readonly #nodes: ManagedProcess[] = [];
  readonly #issued = new Map<string, Promise<string>>();

  private constructor(folder: string, ca: OpenCa, program: readonly string[]) {
    this.folder = folder;
    this.#ca = ca;
    this.#program = program;
  }

  /** Writes CA and policy; no node runs yet. */
  static async create({ services, program = PROGRAM }: DeploymentOptions): Promise<Deployment> {
    const folder = await Deno.makeTempDir({ prefix: "ginnel-deployment-" });
    const ca = await createCaDirectory(`${folder}/ca`, {
      trustDomain: "test.example",
      now: Date.now(),
      days: 3,
    });
    await Deno.writeTextFile(`${folder}/policy.json`, JSON.stringify(openPolicy(services)));
    return new Deployment(folder, ca, program);
  }

  /** The CA's certificate, PEM. */
  get root(): string {
    return this.#ca.ca.certificatePem;
  }

  /** Issues an identity, once however often it is asked for, and returns its file's path. */
  issue(kind: IdentityKind, name: string, { days = 2 }: { readonly days?: number } = {}): Promise<string> {
    const key = `${kind}/${name}`;
    const issued = this.#issued.get(key) ?? this.#issue(kind, name, days);
    this.#issued.set(key, issued);
    return issued;
  }

  /** Starts the relay; it listens on every address of its host unless `config` says otherwise. Resolves when it serves. */
  async startRelay(
    config: Readonly<Record<string, unknown>> = {},
    options: StartOptions = {},
  ): Promise<ManagedProcess> {
    const relay = await this.start(RELAY_NAME, {
      mode: "relay",
      identity: await this.issue("relay", RELAY_NAME),
      listen: { quic: `0.0.0.0:${RELAY_PORT}`, tls: `0.0.0.0:${RELAY_PORT}` },
      policy: ["policy.json"],
      authority: { key: "ca/authority.key" },
      health: null,
      audit: { file: "audit.jsonl" },
      ...config,
    }, options);
    await relay.waitForLine(/"relay_started"/);
    return relay;
  }

  /** Writes a node's config and returns its path. */
  async writeConfig(name: string, config: Readonly<Record<string, unknown>>): Promise<string> {
    const path = `${this.folder}/${name}.config.json`;
    await Deno.writeTextFile(path, JSON.stringify(config, undefined, 2));
    return path;
  }

  /** Writes a node's config and starts it. */
  async start(
    name: string,
    config: Readonly<Record<string, unknown>>,
    options: StartOptions = {},
  ): Promise<ManagedProcess> {
    const { wrap = (command) => command } = options;
    const path = await this.writeConfig(name, config);
    const node = ManagedProcess.spawn(wrap([...this.#program, "run", "--config", path]), { name });
    this.#nodes.push(node);
    return node;
  }

  async #issue(kind: IdentityKind, name: string, days: number): Promise<string> {
    const path = `${this.folder}/${name}.identity.json`;
    const { text } = await issueIdentity(this.#ca.ca, {
      kind,
      name,
      now: Date.now(),
      days,
      authorities: [this.#ca.authority],
    });
    await writeSecretFile(path, text);
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.stop({ signal: "SIGINT", graceMs: 3_000 })));
    await Deno.remove(this.folder, { recursive: true });
  }
}

function openPolicy(services: readonly DeploymentService[]): unknown {
  const rule = { identityRoles: ["#all"], serviceRoles: ["#all"], semantic: "AnyOf" };
  return {
    services,
    servicePolicies: [{ name: "all-dial", type: "Dial", ...rule }, {
      name: "all-bind",
      type: "Bind",
      ...rule,
    }],
  };
}
