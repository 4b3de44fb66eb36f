/**
 * Namespaces that this thread enters, so that the real commands and files act in them, and pictures of everything that
 * could be left behind.
 */

import assert from "node:assert/strict";
import { withDeadline } from "../../../src/base/async.ts";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { type Commands, systemCommands } from "../../../src/io/network/commands.ts";
import { HostNetwork, type HostNetworkOptions } from "../../../src/io/network/host_network.ts";
import { eventually } from "../../support/eventually.ts";
import { Network } from "../../support/namespaces.ts";
import { runCommand } from "../../support/processes.ts";
import { needsNetworkNamespaces, needsTool } from "../../support/require_tool.ts";
import { scratch } from "./fakes.ts";
import { TUNNEL } from "./values.ts";

/** What tests on the ground need. */
export const NEEDS = [needsNetworkNamespaces(), needsTool("nft")];

/** The machines: `near` is ours, `far` its gateway to everywhere, `inner` one that has only `near`. */
export type Place = "near" | "far" | "inner";

/** `near` has 10.77.0.1 and fd77::1 on `eth0`, `far` has 10.77.0.2 and fd77::2; the tunnel interface outlives its users. */
export interface Ground {
  readonly directory: string;
  readonly resolvConf: string;
  /** The command line that runs `command` in a place. */
  command(command: readonly string[], place?: Place): string[];
  /** Runs a shell command in a place. */
  shell(script: string, place?: Place): Promise<string>;
  /** Runs something synchronous with this thread in a place: a socket stays where it was opened. */
  at<T>(place: Place, body: () => T): T;
  /** Everything that could be left behind. */
  picture(): Promise<string>;
  /** Opens the set-up of {@linkcode TUNNEL}. */
  open(options?: Partial<HostNetworkOptions>): Promise<HostNetwork>;
}

/** What a ground has besides. */
export interface GroundOptions {
  /** The name of a link from `near` (10.99.0.1, fd99::1) to `inner` (10.99.0.2, fd99::2): of the tunnel, or another. */
  readonly inner?: string;
}

/** Runs `body` with this thread inside `near`. */
export async function onGround(
  body: (ground: Ground) => Promise<void>,
  { inner }: GroundOptions = {},
): Promise<void> {
  await using network = await Network.create(["near", "far", ...(inner === undefined ? [] : ["inner"])]);
  await using folder = await scratch();
  const directory = folder.path;
  const resolvConf = `${directory}/resolv.conf`;
  await Deno.writeTextFile(resolvConf, "# somebody's own\nnameserver 10.77.0.2\n");
  const command: Ground["command"] = (line, place = "near") => network.host(place).command(line);
  const shell: Ground["shell"] = (script, place) => runCommand(command(["sh", "-ec", script], place));
  await shell("ip addr add fd77::2/64 dev eth0 nodad", "far");
  await shell(`ip addr add fd77::1/64 dev eth0 nodad
    ip route add default via 10.77.0.2 dev eth0
    # A new namespace takes some of these from the machine.
    echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding; echo 1 > /proc/sys/net/ipv6/conf/lo/accept_ra
    echo 1 > /proc/sys/net/ipv4/conf/all/accept_redirects
    ip route add default via fd77::2 dev eth0
    ${inner === TUNNEL ? "" : `ip tuntap add dev ${TUNNEL} mode tun`}`);
  if (inner !== undefined) {
    const { namespace } = network.host("inner");
    await shell(`ip link add ${inner} type veth peer name eth1 netns ${namespace}
      ip addr add 10.99.0.1/24 dev ${inner}; ip addr add fd99::1/64 dev ${inner} nodad; ip link set ${inner} up`);
    await shell(
      `ip link set eth0 down; ip link set eth1 up
      ip addr add 10.99.0.2/24 dev eth1; ip addr add fd99::2/64 dev eth1 nodad
      ip route add default via 10.99.0.1; ip route add default via fd99::1`,
      "inner",
    );
    // A tunnel has no neighbours to ask for, and its rules let nobody ask.
    const address = async (device: string, place: Place) =>
      (await shell(`cat /sys/class/net/${device}/address`, place)).trim();
    const [nearMac, innerMac] = [await address(inner, "near"), await address("eth1", "inner")];
    await shell(`ip neigh replace fd99::2 lladdr ${innerMac} dev ${inner}`);
    await shell(`ip neigh replace fd99::1 lladdr ${nearMac} dev eth1`, "inner");
  }
  const picture = async () => {
    const kernel = clean(await shell(PICTURE));
    const names: string[] = [];
    for await (const { name } of Deno.readDir(directory)) names.push(name);
    const files = names.filter((name) => !name.startsWith("network-")).toSorted();
    return `${kernel}\n${await Deno.readTextFile(resolvConf)}\n${files}`;
  };
  const at: Ground["at"] = (place, body) => {
    using _there = enter(`/run/netns/${network.host(place).namespace}`);
    return body();
  };
  // Link-local addresses come by themselves, a moment after a link is up.
  let before = "";
  await eventually(async () => {
    const now = await picture();
    const isSettled = before === now && !now.includes("tentative");
    before = now;
    return isSettled;
  });
  using _inside = enter(`/run/netns/${network.host("near").namespace}`);
  await body({
    ...{ directory, resolvConf, command, shell, at, picture },
    open: (options = {}) =>
      HostNetwork.open(TUNNEL, { logger: SILENT_LOGGER, directory, resolvConf, ...options }),
  });
}

/** A UDP socket in a place, that ends with its scope. */
export function udp(
  ground: Ground,
  place: Place,
  options: { readonly hostname: string; readonly port: number },
): Deno.DatagramConn & Disposable {
  const socket = ground.at(place, () => Deno.listenDatagram({ transport: "udp", ...options }));
  return Object.assign(socket, { [Symbol.dispose]: () => socket.close() });
}

/** The next datagram as text, and who sent it; fails where none comes. */
export async function receive(socket: Deno.DatagramConn): Promise<{ text: string; from: Deno.NetAddr }> {
  const [bytes, from] = await withDeadline(5_000, () => socket.receive());
  return { text: new TextDecoder().decode(bytes), from: from as Deno.NetAddr };
}

/** Sends a text. */
export async function send(
  socket: Deno.DatagramConn,
  text: string,
  to: { readonly hostname: string; readonly port: number },
): Promise<void> {
  await socket.send(new TextEncoder().encode(text), { transport: "udp", ...to });
}

/** Fails with the lines, and only those, by which two pictures differ. */
export function assertSame(now: string, before: string): void {
  const [is, was] = [now, before].map((text) => text.split("\n").toSorted()) as [string[], string[]];
  const more = is.filter((line) => !was.includes(line));
  const less = was.filter((line) => !is.includes(line));
  assert.deepEqual({ more, less, count: is.length }, { more: [], less: [], count: was.length });
}

/** The real programs, and every input that changed something. */
export function countedCommands(): { readonly commands: Commands; readonly writes: string[] } {
  const real = systemCommands();
  const writes: string[] = [];
  return {
    writes,
    commands: {
      run: (program, args, stdin) => {
        if (stdin !== undefined) writes.push(stdin);
        return real.run(program, args, stdin);
      },
    },
  };
}

const PICTURE = `ip -d route show table all
  ip -6 -d route show table all
  ip rule
  ip -d addr
  nft list ruleset
  grep -rs . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf || true`;

/** Leaves out what changes by itself: leases' times, and the queue that a link gets when it first comes up. */
function clean(picture: string): string {
  return picture.replace(/ (valid_lft|preferred_lft|qdisc) \S+| expires \S+/g, "");
}

const CLONE_NEWNET = 0x4000_0000;
const O_CLOEXEC = 0o2000000;

/** Moves this thread, and whatever it starts, into a network namespace; disposing moves it back. */
function enter(path: string): Disposable {
  const libc = Deno.dlopen("libc.so.6", {
    open: { parameters: ["buffer", "i32"], result: "i32" },
    close: { parameters: ["i32"], result: "i32" },
    setns: { parameters: ["i32", "i32"], result: "i32" },
  });
  const open = (name: string) => libc.symbols.open(new TextEncoder().encode(`${name}\0`), O_CLOEXEC);
  const move = (fd: number) => {
    if (libc.symbols.setns(fd, CLONE_NEWNET) !== 0) throw new Error("Cannot change the namespace");
    libc.symbols.close(fd);
  };
  const home = open("/proc/thread-self/ns/net");
  move(open(path));
  return {
    [Symbol.dispose]: () => {
      move(home);
      libc.close();
    },
  };
}
