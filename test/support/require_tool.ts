/**
 * Tests that need something npm does not bring: a program, root, network namespaces. Where it is missing the
 * test is skipped by name, with the command that installs it; `test/run.ts` lists those, and in CI as root a
 * skipped test counts as a failure.
 */

/** Something a test needs of the machine, and what to do where it is absent. */
export interface Requirement {
  /** What is needed, as a reader would say it: `curl`, `root`. */
  readonly name: string;
  readonly met: boolean;
  /** The command that would meet it. */
  readonly remedy: string;
  /** Where the program was found; empty where it is missing or where no program is meant. */
  readonly path: string;
}

/** How to look for a program and how to install it. */
export interface ToolOptions {
  /** The command that installs it, e.g. `apt-get install -y curl`. */
  readonly install?: string;
  /** Absolute paths to try before `PATH`. */
  readonly paths?: readonly string[];
}

/** The programs our tests use. `.ci/run` installs every package named here; an architecture test compares. */
export const TOOLS = {
  "aarch64-linux-gnu-gcc": { install: "apt-get install -y gcc-aarch64-linux-gnu" },
  chromium: { install: "apt-get install -y chromium" },
  curl: { install: "apt-get install -y curl" },
  dig: { install: "apt-get install -y bind9-dnsutils" },
  dnsmasq: { install: "apt-get install -y dnsmasq-base", paths: ["/usr/sbin/dnsmasq"] },
  gcc: { install: "apt-get install -y gcc" },
  go: { install: "apt-get install -y golang", paths: ["/usr/local/go/bin/go"] },
  ip: { install: "apt-get install -y iproute2", paths: ["/usr/sbin/ip", "/sbin/ip"] },
  iperf3: { install: "apt-get install -y iperf3" },
  nft: { install: "apt-get install -y nftables", paths: ["/usr/sbin/nft", "/sbin/nft"] },
  "ngtcp2-client": { install: "apt-get install -y ngtcp2-client" },
  npm: { install: "apt-get install -y npm" },
  ping: { install: "apt-get install -y iputils-ping" },
  postgres: { install: "apt-get install -y postgresql" },
  psql: { install: "apt-get install -y postgresql-client" },
  python3: { install: "apt-get install -y python3" },
  "qemu-aarch64-static": {
    install: "apt-get install -y qemu-user-static libc6-arm64-cross libgcc-s1-arm64-cross",
  },
  ss: { install: "apt-get install -y iproute2", paths: ["/usr/bin/ss", "/usr/sbin/ss"] },
  "systemd-analyze": { install: "apt-get install -y systemd" },
  uvicorn: { install: "apt-get install -y uvicorn python3-websockets", paths: ["/usr/bin/uvicorn"] },
} as const satisfies Record<string, ToolOptions>;

/** Requires a program: one of {@linkcode TOOLS}, or another with its own install command. */
export function needsTool(name: keyof typeof TOOLS): Requirement;
export function needsTool(name: string, options: ToolOptions & { readonly install: string }): Requirement;
export function needsTool(name: string, options: ToolOptions = {}): Requirement {
  const known: ToolOptions = TOOLS[name as keyof typeof TOOLS] ?? {};
  const { install = `install ${name}`, paths = [] } = { ...known, ...options };
  const fromPath = (Deno.env.get("PATH") ?? "").split(":").filter((folder) => folder !== "")
    .map((folder) => `${folder}/${name}`);
  const path = [...paths, ...fromPath].find(isExecutable) ?? "";
  return { name, met: path !== "", remedy: install, path };
}

/** Requires user id 0. */
export function needsRoot(): Requirement {
  return { name: "root", met: Deno.uid() === 0, remedy: "run the tests as root, or with sudo", path: "" };
}

/** Requires the right to make network namespaces, which some containers deny even to root. */
export function needsNetworkNamespaces(): Requirement {
  const ip = needsTool("ip");
  const met = Deno.uid() === 0 && ip.met && canUnshareNetwork();
  const remedy = ip.met ? "run the tests as root with CAP_SYS_ADMIN and CAP_NET_ADMIN" : ip.remedy;
  return { name: "network namespaces", met, remedy, path: ip.path };
}

/** Requires the right to make a TUN interface: the device file and CAP_NET_ADMIN. */
export function needsTun(): Requirement {
  const namespaces = needsNetworkNamespaces();
  const device = "/dev/net/tun";
  return {
    name: "a TUN device",
    met: namespaces.met && exists(device),
    remedy: namespaces.met ? `modprobe tun, or give the container --device ${device}` : namespaces.remedy,
    path: device,
  };
}

/** `Deno.test` that is skipped by name while any requirement is not met. */
export function testNeeding(
  requirements: readonly Requirement[],
  name: string,
  body: (t: Deno.TestContext) => void | Promise<void>,
): void {
  const missing = requirements.filter((requirement) => !requirement.met);
  Deno.test({ name: skippedName(name, missing), ignore: missing.length > 0, fn: body });
}

/** The name a test carries while `missing` is not empty: it says what is needed and how to get it. */
export function skippedName(name: string, missing: readonly Requirement[]): string {
  if (missing.length === 0) return name;
  const needs = missing.map((requirement) => requirement.name).join(", ");
  const remedies = [...new Set(missing.map((requirement) => requirement.remedy))].join("; ");
  return `${name} (needs ${needs}: ${remedies})`;
}

function isExecutable(path: string): boolean {
  try {
    const info = Deno.statSync(path);
    return info.isFile && (info.mode === null || (info.mode & 0o111) !== 0);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
    if (error instanceof Deno.errors.PermissionDenied) return false;
    throw error;
  }
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function canUnshareNetwork(): boolean {
  const unshare = needsTool("unshare", { install: "part of every Linux system" });
  if (!unshare.met) return false;
  return new Deno.Command(unshare.path, { args: ["-n", "true"], stdout: "null", stderr: "null" }).outputSync()
    .success;
}
