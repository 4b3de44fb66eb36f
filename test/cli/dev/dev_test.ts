/**
 * `ginnel dev` as a person runs it: a process with a terminal's signals, which must leave nothing behind however it ends.
 */

import assert from "node:assert/strict";
import { pathExists } from "../../../src/base/paths.ts";
import { eventually } from "../../support/eventually.ts";
import { ManagedProcess, runCommand } from "../../support/processes.ts";
import { needsTool, needsTun, testNeeding } from "../../support/require_tool.ts";

const MAIN = new URL("../../../main.ts", import.meta.url).pathname;
const IP = needsTool("ip");
const SETPRIV = needsTool("setpriv", { install: "part of every Linux system" });
const NETNS_SETTINGS = "/etc/netns";
const OWN_ADDRESS = /Asked at http:\/\/127\.10\d\.\d+\.\d+:8080\/, it said: Hello/;
const TUNNEL = [needsTun(), needsTool("nft")];

/** How to start a demo. */
interface DemoOptions {
  /** Where it may leave something. */
  readonly folder: string;
  readonly path?: string;
  readonly within?: readonly string[];
}

/** A demo's process. */
class Demo implements AsyncDisposable {
  readonly process: ManagedProcess;
  readonly #folder: string;

  constructor(args: readonly string[], { folder, path, within = [] }: DemoOptions) {
    this.#folder = folder;
    const env = { TMPDIR: folder, ...(path === undefined ? {} : { PATH: path }) };
    const command = [...within, Deno.execPath(), "run", "--allow-all", MAIN, "dev", ...args];
    this.process = ManagedProcess.spawn(command, { name: "dev", env });
  }

  /** All it has said. */
  get text(): string {
    return this.process.lines.join("\n");
  }

  /** Its name, which its folder and its namespaces carry, once it has said it. */
  get name(): string {
    return /ginnel-dev-[0-9a-f]{8}/.exec(this.text)?.[0] ?? "nobody";
  }

  /** What is there of it. */
  async left(): Promise<string[]> {
    const folders = [...Deno.readDirSync(this.#folder)].map(({ name }) => name);
    const settings = await Array.fromAsync(
      await pathExists(NETNS_SETTINGS) ? Deno.readDir(NETNS_SETTINGS) : [],
    );
    const ours = settings.map(({ name }) => name).filter((name) => name.startsWith(this.name));
    return [...folders, ...ours, ...await namespacesOf(this.name)];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process[Symbol.asyncDispose]();
  }
}

async function emptyFolder(): Promise<AsyncDisposable & { readonly folder: string }> {
  const folder = await Deno.makeTempDir();
  return { folder, [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }) };
}

async function namespacesOf(name: string): Promise<string[]> {
  if (!IP.met) return [];
  const list = await runCommand([IP.path, "netns", "list"]);
  return list.split("\n").map((line) => line.split(" ")[0]!).filter((namespace) =>
    namespace.startsWith(name)
  );
}

testNeeding(
  TUNNEL,
  "dev --once shows a service, by its name too, and a tunnel, and leaves nothing behind",
  async () => {
    await using place = await emptyFolder();
    await using demo = new Demo(["--once"], place);
    const { code } = await demo.process.ended;
    assert.equal(code, 0, demo.text);
    assert.match(demo.text, /It worked, in [\d.]+ ms\. The service said: Hello/);
    assert.match(demo.text, OWN_ADDRESS);
    assert.match(
      demo.text,
      /^ +hello +hello\.ginnel\.internal +127\.10\d\.\d+\.\d+ +tcp 80,8080 +relay-1 > laptop/m,
    );
    assert.match(
      demo.text,
      /to http:\/\/hello\.ginnel\.internal\/\.\.\.\nIt worked, .* said: Hello from 127\.0\.0\.1\./,
    );
    assert.match(
      demo.text,
      /^ping (?:hello\.ginnel\.internal \([0-9a-f.:]+\): the connector answers|is left out)/m,
    );
    assert.match(demo.text, /-agent +10\.100\.0\.2 on ginnel0/);
    assert.match(
      demo.text,
      /The internet said: Hello from 198\.51\.100\.10\. You come from 203\.0\.113\.2\./,
    );
    assert.match(demo.text, /Allowed by the egress rule "web"/);
    assert.match(demo.text, /198\.51\.100\.20\/ is out of reach: refused by the egress rule "not-this-one"/);
    assert.deepEqual(await demo.left(), []);
  },
);

testNeeding(TUNNEL, "dev gives lines to try that work, and Ctrl-C ends it with nothing left", async () => {
  await using place = await emptyFolder();
  await using demo = new Demo([], place);
  await demo.process.waitForLine(/Ctrl-C stops everything/, { timeoutMs: 60_000 });
  const lines = demo.process.lines.filter((line) =>
    / (?:curl|ping) /.test(line) && !line.includes("ping -c")
  );
  const answers = await Promise.all(lines.map((line) => runCommand(line.trim().split(" "))));
  assert.deepEqual(answers.map((answer) => /^Hello from (?:a service|127|198)/.exec(answer)?.[0]), [
    "Hello from a service",
    "Hello from a service",
    "Hello from 127",
    "Hello from 198",
  ]);
  const namespaces = await namespacesOf(demo.name);
  assert.equal(namespaces.length, 4);
  // A terminal sends it to all of them.
  for (const namespace of namespaces) {
    const pids = (await runCommand([IP.path, "netns", "pids", namespace])).split("\n").filter(Boolean);
    for (const pid of pids) Deno.kill(Number(pid), "SIGINT");
  }
  demo.process.signal("SIGINT");
  const { code } = await demo.process.ended;
  assert.equal(code, 0, demo.text);
  assert.match(demo.text, /Stopped: everything is gone/);
  assert.doesNotMatch(demo.text, /error|did not work/i);
  assert.deepEqual(await demo.left(), []);
});

testNeeding(TUNNEL, "Ctrl-C while the tunnel comes up leaves nothing behind either", async () => {
  await using place = await emptyFolder();
  await using demo = new Demo(["--once"], place);
  await demo.process.waitForLine(/The service said/, { timeoutMs: 60_000 });
  const name = demo.name;
  await eventually(async () => (await namespacesOf(name)).length > 0, { timeout: 20_000, interval: 20 });
  demo.process.signal("SIGINT");
  const { code } = await demo.process.ended;
  assert.equal(code, 1, demo.text);
  assert.deepEqual(await demo.left(), []);
});

testNeeding(
  TUNNEL,
  "what a killed demo left is removed at the next start, a living one's is not",
  async () => {
    await using place = await emptyFolder();
    await using elsewhere = await emptyFolder();
    await using living = new Demo([], elsewhere);
    await living.process.waitForLine(/Ctrl-C stops everything/, { timeoutMs: 60_000 });
    await using killed = new Demo([], place);
    await killed.process.waitForLine(/Ctrl-C stops everything/, { timeoutMs: 60_000 });
    killed.process.signal("SIGKILL");
    await killed.process.ended;
    assert.equal((await killed.left()).length, 6);
    // Its nodes go by themselves.
    const pids = () => runCommand([IP.path, "netns", "pids", `${killed.name}-relay`]);
    await eventually(async () => await pids() === "", { timeout: 20_000, interval: 50 });

    await using next = new Demo(["--once"], place);
    assert.equal((await next.process.ended).code, 0, next.text);
    assert.deepEqual(await killed.left(), []);
    assert.equal((await namespacesOf(living.name)).length, 4);
    assert.match(
      await runCommand(living.text.match(/ip netns exec .* curl .*/)![0].split(" ")),
      /Hello from/,
    );
  },
);

testNeeding(
  [...TUNNEL, SETPRIV],
  "root without the right to make namespaces is told so, and sees the rest",
  async () => {
    await using place = await emptyFolder();
    const within = [SETPRIV.path, "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"];
    await using demo = new Demo(["--once"], { ...place, within });
    assert.equal((await demo.process.ended).code, 0, demo.text);
    assert.match(
      demo.text,
      /^Services by name and the IP tunnel are left out: no network namespaces can be made here: ip netns add/m,
    );
    assert.deepEqual(await demo.left(), []);
  },
);

Deno.test("without what a tunnel needs, dev says what is missing in one line and shows the rest", async () => {
  // A PATH on which `nft` cannot be found: whoever runs this may be root or not.
  await using place = await emptyFolder();
  await using programs = await emptyFolder();
  if (IP.met) await Deno.symlink(IP.path, `${programs.folder}/ip`);
  await using demo = new Demo(["--once"], { ...place, path: programs.folder });
  const { code } = await demo.process.ended;
  assert.equal(code, 0, demo.text);
  assert.match(demo.text, /It worked, in [\d.]+ ms\. The service said: Hello/);
  assert.match(demo.text, OWN_ADDRESS);
  const lines = demo.process.lines.filter((line) => line.includes("tunnel"));
  assert.equal(lines.length, 1, demo.text);
  const reason = Deno.uid() === 0 ? /Cannot run nft: it is not there.*Install nftables/ : /it needs root/;
  assert.match(lines[0]!, /^Services by name and the IP tunnel are left out: /);
  assert.match(lines[0]!, reason);
  assert.deepEqual(await demo.left(), []);
});

Deno.test("a part of the demo that there is not is refused", async () => {
  await using demo = new Demo(["--inside", "nothing"], { folder: "/tmp" });
  assert.equal((await demo.process.ended).code, 1);
  assert.match(demo.text, /"nothing": it is no part of the demo/);
});
