/**
 * One controller as a process of the real program, with its folder: starts from its config, says when it serves, can
 * be killed and started again where it was. A relay that embeds a controller is one too.
 */

import { caPaths } from "../../src/identity/ca_directory.ts";
import { ControllerHttp, type ControllerResponse } from "../../src/io/controller/https_client.ts";
import { PROGRAM } from "./deployment.ts";
import { eventually } from "./eventually.ts";
import { freePort } from "./free_port.ts";
import { ManagedProcess } from "./processes.ts";

/** How a controller runs. */
export interface ControllerOptions {
  readonly name: string;
  /** Folder of the ground; the controller makes its own in it. */
  readonly folder: string;
  readonly trustDomain: string;
  /** The `database` of its config. */
  readonly database: Readonly<Record<string, unknown>>;
  /** Fields that replace those of the config this helper writes. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** The config of the relay it is part of, without `controller`. */
  readonly relay?: Readonly<Record<string, unknown>>;
  /** Where it runs instead of here. */
  readonly place?: ControllerPlace;
}

/** A host of a network that this process is not in. */
export interface ControllerPlace {
  /** Its address there. */
  readonly address: string;
  readonly port: number;
  /** The port of this machine that leads to that one. */
  readonly door: number;
  /** The command line that runs a command there. */
  command(command: readonly string[]): readonly string[];
}

/** Methods of the API. */
export type ApiMethod = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** A request to the API. */
export interface ApiRequest {
  /** Below `/api/v1`, such as `/services?limit=10`, or another path of the controller in full, such as `/ready`. */
  readonly path: string;
  readonly method?: ApiMethod;
  readonly body?: unknown;
  /** Bearer token; none when absent. */
  readonly token?: string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A controller, running or not. */
export class ControllerNode implements AsyncDisposable {
  readonly name: string;
  readonly port: number;
  /** Its data folder. */
  readonly data: string;
  readonly #options: ControllerOptions;
  #peers: readonly { readonly name: string; readonly url: string }[] = [];
  #process: ManagedProcess | undefined;
  #http: ControllerHttp | undefined;
  /** Every CA certificate that its folder held, PEM: while one is replaced it may serve by either. */
  readonly #roots = new Set<string>();

  constructor(options: ControllerOptions) {
    this.#options = options;
    this.name = options.name;
    this.port = options.place?.port ?? freePort();
    this.data = `${options.folder}/${options.name}`;
  }

  get url(): string {
    return `https://${this.#address}:${this.port}`;
  }

  /** The running process. */
  get process(): ManagedProcess {
    if (this.#process === undefined) throw new Error(`${this.name} was not started`);
    return this.#process;
  }

  /** Names the other controllers on its database; in force from the next start. */
  setPeers(peers: readonly { readonly name: string; readonly url: string }[]): void {
    this.#peers = peers;
  }

  /** Starts the program and waits until it serves. */
  async start(): Promise<void> {
    const { folder, relay, place } = this.#options;
    const config = `${folder}/${this.name}.config.json`;
    const text = relay === undefined
      ? { mode: "controller", health: null, log: { level: "debug" }, ...this.#settings() }
      : { ...relay, controller: this.#settings() };
    await Deno.writeTextFile(config, JSON.stringify(text, undefined, 2));
    const command = [...PROGRAM, "run", "--config", config];
    const process = ManagedProcess.spawn(place?.command(command) ?? command, { name: this.name });
    this.#process = process;
    await eventually(async () => {
      if (!process.running) return true;
      // At the first start the file is just being written.
      if (!(await this.#readRoot()).includes("END CERTIFICATE")) return false;
      this.#http ??= this.#client();
      return (await this.request({ path: "/ready" })).status === 200;
    }, { timeout: 30_000 });
    if (!process.running) throw new Error(`${this.name} ended at its start:\n${process.lines.join("\n")}`);
  }

  /** Ends it at once and without a word, as a crash would. */
  async kill(): Promise<void> {
    await this.#process?.stop({ signal: "SIGKILL" });
    this.#dropConnections();
  }

  /** Asks this controller, and no other. */
  async request(
    { path, method = "GET", body, token, headers = {} }: ApiRequest,
  ): Promise<ControllerResponse> {
    if (this.#http === undefined) throw new Error(`${this.name} has no CA yet`);
    await this.#readRoot();
    const isApi = !/^\/(?:(?:api|sync|login|enrolment|\.well-known)\/|ready$|health$|openapi\.json$)/.test(
      path,
    );
    return await this.#http.request({
      method,
      path: isApi ? `/api/v1${path}` : path,
      headers: { ...headers, ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
      ...(body === undefined ? {} : { json: body }),
    });
  }

  /** The token printed at the first start; it is written once the controller serves. */
  async bootstrapToken(): Promise<string> {
    return await eventually(async () => (await Deno.readTextFile(`${this.data}/bootstrap-token`)).trim());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#dropConnections();
    await this.#process?.stop({ graceMs: 3_000 });
  }

  get #address(): string {
    return this.#options.place?.address ?? "127.0.0.1";
  }

  #settings(): Record<string, unknown> {
    const { name, trustDomain, database, config } = this.#options;
    return {
      name,
      trustDomain,
      data: this.data,
      database,
      listen: `${this.#options.place === undefined ? "127.0.0.1" : "0.0.0.0"}:${this.port}`,
      url: this.url,
      names: [this.#address],
      peers: this.#peers,
      ...config,
    };
  }

  #client(): ControllerHttp {
    const { place } = this.#options;
    const url = place === undefined ? this.url : `https://127.0.0.1:${place.door}`;
    return new ControllerHttp({
      controllers: () => [{ name: this.name, url }],
      roots: () => [...this.#roots],
    });
  }

  async #readRoot(): Promise<string> {
    const root = await Deno.readTextFile(caPaths(`${this.data}/ca`).certificate);
    if (root.includes("END CERTIFICATE")) this.#roots.add(root);
    return root;
  }

  #dropConnections(): void {
    this.#http?.[Symbol.dispose]();
    this.#http = undefined;
  }
}
