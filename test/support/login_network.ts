/**
 * A running network whose users log in at OpenID providers: controller, relay and connector on loopback, real providers
 * with a certificate of their own CA, and people who log in by the command line and a browser that is driven page by page.
 */

import assert from "node:assert/strict";
import { apiCommand } from "../../src/cli/api.ts";
import { loginCommand } from "../../src/cli/login.ts";
import { logoutCommand } from "../../src/cli/logout.ts";
import { caFingerprint } from "../../src/identity/ca_rollover.ts";
import { OpenidClient } from "../../src/io/oidc/openid_client.ts";
import { ControllerGround } from "./controller_ground.ts";
import { PROGRAM } from "./deployment.ts";
import { LongFlow } from "./long_flow.ts";
import type { AgentNode } from "./network.ts";
import { OpenidProvider, type Person } from "./openid_provider.ts";
import { makeTlsFiles } from "./openid_tls.ts";
import { ManagedProcess } from "./processes.ts";
import { RecordingUpstream } from "./recording_upstream.ts";

/** The service that users dial. */
const SERVICE = "records";

/** How a command ended, and what it printed. */
export interface CommandResult {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** A user who is logged in, with the agent that runs as the user. */
export interface LoggedInUser {
  /** Identity file. */
  readonly path: string;
  readonly agent: AgentNode;
  /** Opens a flow to the service. */
  flow(): Promise<LongFlow>;
}

/** The network and its providers. */
export class LoginNetwork implements AsyncDisposable {
  readonly ground: ControllerGround;
  readonly providers = new Map<string, OpenidProvider>();
  readonly caHash: string;
  readonly #stack: AsyncDisposableStack;
  readonly #caPath: string;

  /** Starts providers with their people, and the network; users' certificates live for so long. */
  static async start(
    people: Readonly<Record<string, readonly Person[]>>,
    { userLife }: { readonly userLife: string },
  ): Promise<LoginNetwork> {
    await using stack = new AsyncDisposableStack();
    const tls = await makeTlsFiles("localhost");
    const caPath = await Deno.makeTempFile({ suffix: ".pem" });
    stack.defer(() => Deno.remove(caPath));
    await Deno.writeTextFile(caPath, tls.root);
    const providers = new Map<string, OpenidProvider>();
    for (const [name, persons] of Object.entries(people)) {
      providers.set(name, stack.use(await OpenidProvider.start({ people: persons, tls })));
    }
    const ground = stack.use(
      await ControllerGround.create({
        config: { certificates: { user: userLife }, oidc: { allowPrivate: ["localhost"], ca: caPath } },
      }),
    );
    const upstream = stack.use(new RecordingUpstream());
    const [root] = await ground.roots();
    const network = new LoginNetwork(ground, { stack: stack.move(), caPath, caHash: caFingerprint(root!) });
    for (const [name, provider] of providers) network.providers.set(name, provider);
    await network.#setUp(upstream.url);
    return network;
  }

  private constructor(
    ground: ControllerGround,
    parts: { readonly stack: AsyncDisposableStack; readonly caPath: string; readonly caHash: string },
  ) {
    this.ground = ground;
    this.#stack = parts.stack;
    this.#caPath = parts.caPath;
    this.caHash = parts.caHash;
  }

  /** The first controller's URL. */
  get url(): string {
    return this.ground.controllers[0]!.url;
  }

  provider(name: string): OpenidProvider {
    return this.providers.get(name)!;
  }

  /** Where the identity file of a user is written. */
  path(name: string): string {
    return `${this.ground.folder}/${name}.identity.json`;
  }

  /** What a login's command line says besides its file. */
  flags(provider: string): string[] {
    const trust = ["--controller", this.url, "--ca-hash", this.caHash];
    return [...trust, "--provider", provider, "--provider-ca", this.#caPath];
  }

  /** Logs a person in by the program itself, in a browser here or at another device. */
  async loginByProgram(name: string, way: "browser" | "device"): Promise<void> {
    const flags = way === "device" ? ["--device"] : [];
    const words = ["login", "-o", this.path(name), ...this.flags("clinic"), ...flags];
    await using process = ManagedProcess.spawn([...PROGRAM, ...words], { name: "ginnel login" });
    const [url] = await process.waitForLine(
      way === "device" ? /https:\/\/\S+user_code=\S+/ : /https:\/\/\S+/,
    );
    await this.#browse("clinic", { url, person: `u-${name}` });
    const { code } = await process.ended;
    assert.equal(code, 0, process.lines.join("\n"));
  }

  /** Logs a person in at a provider; resolves whatever comes of it. */
  async login(name: string, { provider = "clinic", person = `u-${name}` } = {}): Promise<CommandResult> {
    let browser: Promise<void> | undefined;
    const result = await run(
      loginCommand,
      ["-o", this.path(name), ...this.flags(provider), "--json"],
      (text) => {
        const [, url] = /^Open this .*\s+(https:\S+)/.exec(text) ?? [];
        if (url !== undefined) browser ??= this.#browse(provider, { url, person });
      },
    );
    await browser;
    return result;
  }

  /** Logs the user of a file in again, without a browser. */
  refresh(name: string): Promise<CommandResult> {
    return run(loginCommand, ["-o", this.path(name), "--refresh"]);
  }

  logout(name: string): Promise<CommandResult> {
    return run(logoutCommand, ["--identity", this.path(name)]);
  }

  /** `ginnel api`, as the user of a file. */
  api(name: string, ...words: string[]): Promise<CommandResult> {
    return run(apiCommand, [...words, "--controller", this.url, "--identity", this.path(name)]);
  }

  /** An ID token of a person, as any client of the provider gets it. */
  async idToken(person: string, provider = "clinic"): Promise<string> {
    const { issuer, clientId } = this.provider(provider);
    const roots = [await Deno.readTextFile(this.#caPath)];
    using client = new OpenidClient({ issuer, clientId, scopes: ["openid", "profile"], roots });
    let browser: Promise<void> | undefined;
    const { idToken } = await client.loginByBrowser({
      nonce: crypto.randomUUID(),
      show: (url) => void (browser = this.#browse(provider, { url, person })),
      signal: AbortSignal.timeout(20_000),
    });
    await browser;
    return idToken;
  }

  /** Runs an agent as a user who is logged in. */
  async agentOf(name: string): Promise<LoggedInUser> {
    const path = this.path(name);
    const identity = { id: "", spiffeId: this.spiffeId(name), path };
    const agent = await this.ground.agent({ name, identity, forwards: [SERVICE] });
    return { path, agent, flow: () => LongFlow.open(agent.forward(SERVICE)) };
  }

  spiffeId(name: string): string {
    return `spiffe://test.example/user/${name}`;
  }

  /** What the controller knows of an identity of this name. */
  async identity(
    name: string,
  ): Promise<Readonly<Record<string, unknown>> & { readonly id: string } | undefined> {
    const { json } = await this.ground.api("GET", `/identities?type=user&name=${name}`);
    return (json as { data: (Record<string, unknown> & { id: string })[] }).data[0];
  }

  /** Changes what a provider says of a person from now on. */
  setGroups(person: string, groups: readonly string[], provider = "clinic"): void {
    const { people } = this.provider(provider);
    people.set(person, { ...people.get(person)!, groups });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
  }

  async #setUp(upstream: string): Promise<void> {
    const { ground } = this;
    for (const [name, { issuer, clientId }] of this.providers) {
      const prefix = name === "clinic" ? "" : `${name}-`;
      await ground.make("/auth-providers", {
        name,
        issuer,
        clientId,
        scopes: ["openid", "profile", "offline_access"],
        nameClaim: "preferred_username",
        rules: [
          { claim: "groups", roleAttributes: [`${prefix}{value}`] },
          { claim: "groups", value: "it", roleAttributes: [], adminRole: "admin" },
          { claim: "groups", value: "auditors", roleAttributes: [], adminRole: "viewer" },
        ],
      });
    }
    await ground.make("/services", { name: SERVICE });
    const policy = { semantic: "AnyOf", serviceRoles: [`@${SERVICE}`] };
    await ground.make("/service-policies", {
      ...policy,
      name: "dial",
      type: "Dial",
      identityRoles: ["#doctors"],
    });
    await ground.make("/service-policies", {
      ...policy,
      name: "bind",
      type: "Bind",
      identityRoles: ["@host"],
    });
    await ground.relay();
    await ground.connector({ name: "host", services: { [SERVICE]: upstream } });
  }

  /** Logs a person in at the address that was printed, and follows the provider back. */
  async #browse(
    provider: string,
    { url, person }: { readonly url: string; readonly person: string },
  ): Promise<void> {
    const callback = await this.provider(provider).browse(url, person);
    if (callback !== undefined) await (await fetch(callback)).body?.cancel();
  }
}

type Command = (
  args: string[],
  io: { stdout(text: string): void; stderr(text: string): void; readonly isTerminal: boolean },
) => Promise<number>;

async function run(
  command: Command,
  args: string[],
  onError: (text: string) => void = () => {},
): Promise<CommandResult> {
  let out = "";
  let err = "";
  const code = await command(args, {
    stdout: (text) => void (out += text),
    stderr: (text) => {
      err += text;
      onError(text);
    },
    isTerminal: false,
  });
  return { code, out, err };
}
