/**
 * Throw-away networks of Linux network namespaces: every host is a namespace joined by a veth pair to one bridge,
 * which lives in a namespace of its own, so that nothing of it appears in the machine's own network.
 * Needs root and the `ip` command. Names carry the maker's pid: leftovers of crashed runs are found and removed.
 */

import { runCommand } from "./processes.ts";

/** First part of every namespace name made here; the full form is PREFIX-<pid>-<network>-<host>. */
const PREFIX = "gnl";
/** Bytes per packet on every link. */
const LINK_MTU = 1_500;

let networksMade = 0;

/** One namespace of a {@linkcode Network}. */
export interface Host {
  readonly name: string;
  /** The namespace's own name, for `ip netns`. */
  readonly namespace: string;
  /** Its IPv4 address on the shared bridge. */
  readonly address: string;
  /** The command line that runs `command` inside; it replaces itself, so the pid is the command's own. */
  command(command: readonly string[]): string[];
}

/** Hosts on one bridge; disposing it removes every namespace and whatever still runs inside. */
export class Network implements AsyncDisposable {
  readonly #hosts: ReadonlyMap<string, Host>;
  readonly #namespaces: readonly string[];

  private constructor(hosts: ReadonlyMap<string, Host>, namespaces: readonly string[]) {
    this.#hosts = hosts;
    this.#namespaces = namespaces;
  }

  /** Makes one namespace per name (1-8 letters or digits each), after removing what crashed runs left behind. */
  static async create(names: readonly string[]): Promise<Network> {
    await removeLeftovers();
    const run = `${PREFIX}-${Deno.pid}-${networksMade++}`;
    const hub = `${run}-hub`;
    const made = [hub];
    const hosts = new Map<string, Host>();
    try {
      await addNamespace(hub);
      await ip(["-n", hub, "link", "add", "bridge", "type", "bridge"]);
      await ip(["-n", hub, "link", "set", "bridge", "up"]);
      for (const [index, name] of names.entries()) {
        if (!/^[a-z0-9]{1,8}$/.test(name)) throw new RangeError(`Cannot name a host ${JSON.stringify(name)}`);
        const host = makeHost(name, { namespace: `${run}-${name}`, address: `10.77.0.${index + 1}` });
        made.push(host.namespace);
        await addNamespace(host.namespace);
        await join(host, hub);
        hosts.set(name, host);
      }
    } catch (error) {
      for (const namespace of made) {
        await removeNamespace(namespace).catch(() => {/* it may not exist yet */});
      }
      throw error;
    }
    return new Network(hosts, made);
  }

  /** The host of that name. */
  host(name: string): Host {
    const host = this.#hosts.get(name);
    if (host === undefined) throw new RangeError(`Cannot find host ${JSON.stringify(name)} in this network`);
    return host;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const namespace of this.#namespaces) await removeNamespace(namespace);
  }
}

function makeHost(name: string, place: { readonly namespace: string; readonly address: string }): Host {
  return { name, ...place, command: (command) => ["ip", "netns", "exec", place.namespace, ...command] };
}

async function addNamespace(namespace: string): Promise<void> {
  await ip(["netns", "add", namespace]);
  await ip(["-n", namespace, "link", "set", "lo", "up"]);
}

async function join(host: Host, hub: string): Promise<void> {
  const port = `p-${host.name}`;
  await ip([
    "-n",
    hub,
    "link",
    "add",
    port,
    "mtu",
    `${LINK_MTU}`,
    "type",
    "veth",
    "peer",
    "name",
    "eth0",
    "mtu",
    `${LINK_MTU}`,
    "netns",
    host.namespace,
  ]);
  await ip(["-n", hub, "link", "set", port, "master", "bridge", "up"]);
  await ip(["-n", host.namespace, "addr", "add", `${host.address}/24`, "dev", "eth0"]);
  // Nobody else is there to have the same IPv6 addresses: they count at once. And connection tests open more connections
  // per minute than the default port range holds.
  await runCommand(
    host.command([
      "sh",
      "-c",
      "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_dad; echo 1024 65535 > /proc/sys/net/ipv4/ip_local_port_range; " +
      "echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse; exec ip link set eth0 up",
    ]),
  );
}

async function removeLeftovers(): Promise<void> {
  for (const line of (await ip(["netns", "list"])).split("\n")) {
    const namespace = line.split(" ")[0] ?? "";
    const maker = new RegExp(`^${PREFIX}-(\\d+)-`).exec(namespace)?.[1];
    if (maker !== undefined && !await isRunning(Number(maker))) await removeNamespace(namespace);
  }
}

/** Ends what still runs inside (only this module starts processes there) and deletes the namespace with its links. */
async function removeNamespace(namespace: string): Promise<void> {
  for (const pid of (await ip(["netns", "pids", namespace])).split("\n").filter(Boolean)) {
    try {
      Deno.kill(Number(pid), "SIGKILL");
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  await ip(["netns", "del", namespace]);
}

async function isRunning(pid: number): Promise<boolean> {
  if (pid === Deno.pid) return true;
  try {
    await Deno.stat(`/proc/${pid}`);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function ip(args: readonly string[]): Promise<string> {
  return runCommand(["ip", ...args]);
}
