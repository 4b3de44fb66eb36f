/**
 * The hosts of the demo: network namespaces `agent`, `relay` and `internet`, joined in this order, and `service`, which
 * is joined to the relay too. Nothing of them appears in the machine's own network. Needs root and `ip`.
 */

import { GinnelError } from "../../base/errors.ts";
import { isDemoAlive } from "./demo_folder.ts";

const HOSTS = ["agent", "relay", "internet", "service"] as const;

/** A host of the demo. */
export type DemoHost = typeof HOSTS[number];

/** Addresses of the hosts: of nobody, and of this demo only inside its namespaces. */
export const DEMO_ADDRESSES = {
  relay: "10.99.0.1",
  agent: "10.99.0.2",
  relayOutside: "203.0.113.2",
  internet: "203.0.113.1",
  network: "198.51.100.0/24",
  web: "198.51.100.10",
  forbidden: "198.51.100.20",
  relayBehind: "10.99.1.1",
  service: "10.99.1.2",
  /** Where the agent answers for the services' names. */
  resolver: "10.101.0.1",
} as const;

const NAMESPACE = new RegExp(`^(ginnel-dev-[0-9a-f]{8})-(?:${HOSTS.join("|")})$`);

/** Where `ip netns` keeps namespaces. */
const NAMESPACES = "/run/netns";

/** Whose files `ip netns exec` shows in place of those in /etc. */
const SETTINGS = "/etc/netns";

/** The namespaces of one demo; disposing it removes them. */
export class DemoHosts implements AsyncDisposable {
  readonly #demo: string;
  /** Held while the demo lives: by that the next start tells its namespaces from a killed demo's. */
  readonly #locks: Deno.FsFile[] = [];

  private constructor(demo: string) {
    this.#demo = demo;
  }

  /** Makes the namespaces of a demo, named after its folder, after removing those of killed demos. */
  static async create(demo: string): Promise<DemoHosts> {
    await removeDeadHosts();
    const hosts = new DemoHosts(demo);
    try {
      await hosts.#make();
      return hosts;
    } catch (error) {
      await hosts[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The name of a host's namespace. */
  namespace(host: DemoHost): string {
    return `${this.#demo}-${host}`;
  }

  /** The IPv4 addresses of a host's interface. */
  async addressesOf(host: DemoHost, name: string): Promise<string[]> {
    const text = await ip(["-n", this.namespace(host), "-json", "-4", "addr", "show", "dev", name]);
    const links = JSON.parse(text) as { addr_info?: { local: string }[] }[];
    return links.flatMap((link) => (link.addr_info ?? []).map(({ local }) => local));
  }

  /** Runs a program on a host to its end. */
  async run(
    host: DemoHost,
    command: readonly string[],
    signal: AbortSignal,
  ): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
    const args = ["netns", "exec", this.namespace(host), ...command];
    const { code, stdout, stderr } = await new Deno.Command("ip", { args, stdin: "null", signal }).output();
    const decoder = new TextDecoder();
    return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await removeSettings(this.namespace("agent"));
    const there = await namespaces();
    for (const host of HOSTS) {
      const name = this.namespace(host);
      if (there.includes(name)) await ip(["netns", "del", name]);
    }
    for (const lock of this.#locks.splice(0)) lock.close();
  }

  async #make(): Promise<void> {
    for (const host of HOSTS) {
      const name = this.namespace(host);
      await ip(["netns", "add", name]);
      const lock = await Deno.open(`${NAMESPACES}/${name}`);
      this.#locks.push(lock);
      await lock.lock(true);
    }
    await writeSettings(this.namespace("agent"));
    const { relay, agent, relayOutside, internet, web, forbidden, relayBehind, service } = DEMO_ADDRESSES;
    await this.#set("relay", [
      `link add inside type veth peer name eth0 netns ${this.namespace("agent")}`,
      `link add outside type veth peer name eth0 netns ${this.namespace("internet")}`,
      `link add behind type veth peer name eth0 netns ${this.namespace("service")}`,
      `addr add ${relay}/24 dev inside`,
      `addr add ${relayOutside}/24 dev outside`,
      `addr add ${relayBehind}/24 dev behind`,
      ...["lo", "inside", "outside", "behind"].map((name) => `link set ${name} up`),
      `route add default via ${internet}`,
    ]);
    // The agent knows no way but to the relay: what it reaches beyond, it reaches through the tunnel.
    await this.#set("agent", [`addr add ${agent}/24 dev eth0`, "link set lo up", "link set eth0 up"]);
    await this.#set("service", [
      `addr add ${service}/24 dev eth0`,
      "link set lo up",
      "link set eth0 up",
      `route add ${relay}/32 via ${relayBehind}`,
    ]);
    await this.#set("internet", [
      `addr add ${internet}/24 dev eth0`,
      ...[web, forbidden].map((address) => `addr add ${address}/32 dev lo`),
      "link set lo up",
      "link set eth0 up",
    ]);
  }

  async #set(host: DemoHost, lines: readonly string[]): Promise<void> {
    for (const line of lines) await ip(["-n", this.namespace(host), ...line.split(" ")]);
  }
}

async function removeDeadHosts(): Promise<void> {
  for (const name of await namespaces()) {
    const demo = NAMESPACE.exec(name)?.[1];
    // The folder's lock tells of a demo that has made its namespace and not locked it yet.
    if (demo === undefined || await isDemoAlive(demo)) continue;
    try {
      using lock = await Deno.open(`${NAMESPACES}/${name}`);
      if (!(await lock.tryLock(true))) continue;
      await removeSettings(name);
      await ip(["netns", "del", name]);
    } catch (error) {
      // Another start removes it at the same time.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

/** Has programs in a namespace ask the demo's resolver for names, and nobody else, whomever the machine asks. */
async function writeSettings(namespace: string): Promise<void> {
  const folder = `${SETTINGS}/${namespace}`;
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(`${folder}/resolv.conf`, `nameserver ${DEMO_ADDRESSES.resolver}\n`);
  try {
    const text = await Deno.readTextFile("/etc/nsswitch.conf");
    await Deno.writeTextFile(`${folder}/nsswitch.conf`, text.replace(/^hosts:.*$/m, "hosts: files dns"));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

async function removeSettings(namespace: string): Promise<void> {
  await Deno.remove(`${SETTINGS}/${namespace}`, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  // Others' settings keep the folder; it goes with the last.
  await Deno.remove(SETTINGS).catch(() => {/* not empty, or not there */});
}

async function namespaces(): Promise<string[]> {
  return (await ip(["netns", "list"])).split("\n").map((line) => line.split(" ", 1)[0]!);
}

async function ip(args: readonly string[]): Promise<string> {
  const output = await new Deno.Command("ip", { args: [...args], stdin: "null" }).output();
  const decoder = new TextDecoder();
  if (output.success) return decoder.decode(output.stdout);
  const said = decoder.decode(output.stderr).trim().split("\n", 1)[0];
  throw new GinnelError("ERR_DEMO_NETWORK", `ip ${args.join(" ")} says: ${said}`);
}
