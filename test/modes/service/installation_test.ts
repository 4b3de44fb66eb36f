/** Installing and uninstalling below another root: what is there, who may read it, and that nothing is left. */

import assert from "node:assert/strict";
import { loadConfig } from "../../../src/config/parse_config.ts";
import { ServiceManager } from "../../../src/modes/service/installation.ts";

const PROGRAM = "/usr/local/bin/ginnel";
const AGENT = {
  mode: "agent",
  identity: "keys/alice.json",
  relays: [{ name: "relay-1", address: "relay.example:4433" }],
  forwards: [{ listen: "127.0.0.1:8000", service: "alice.json" }],
};

Deno.test("install() copies config and keys where only the node's user reads them; uninstall() leaves no trace", async () => {
  await using ground = await Ground.create({ "keys/alice.json": "secret" }, AGENT);
  const before = await ground.tree();
  const { unit, home } = await ground.install();
  assert.deepEqual((await ground.tree()).filter((line) => !before.includes(line)), [
    "etc/systemd/system/ginnel-agent.service 644",
    "var/lib/private/ginnel-agent 700",
    "var/lib/private/ginnel-agent/alice.json 600",
    "var/lib/private/ginnel-agent/config.json 600",
  ]);
  assert.equal(await Deno.readTextFile(`${home}/alice.json`), "secret");
  assert.match(
    await Deno.readTextFile(unit),
    /^ExecStart=\/usr\/local\/bin\/ginnel run --config \$\{STATE_DIRECTORY\}\/config\.json$/m,
  );
  const config = await loadConfig(`${home}/config.json`);
  assert.ok(config.mode === "agent");
  assert.equal(config.identity, `${home}/alice.json`);
  assert.equal(config.forwards[0]!.service, "alice.json", "a text that only looks like the path stays");
  assert.equal(await ground.manager.uninstall("agent", { purge: false }), undefined);
  assert.deepEqual(await ground.tree(), before);
});

Deno.test("uninstall() takes what a running node left: cache, sockets, the link to its folder", async () => {
  await using ground = await Ground.create({ "keys/alice.json": "secret" }, AGENT);
  const before = await ground.tree();
  await ground.install();
  for (const path of ["run/ginnel/agent", "var/cache/private/ginnel-agent/ginnel"]) {
    await Deno.mkdir(`${ground.root}/${path}`, { recursive: true });
    await Deno.writeTextFile(`${ground.root}/${path}/file`, "x");
  }
  await Deno.symlink("private/ginnel-agent", `${ground.root}/var/lib/ginnel-agent`);
  await Deno.symlink("private/ginnel-agent", `${ground.root}/var/cache/ginnel-agent`);
  await ground.manager.uninstall("agent", { purge: false });
  const left = (await ground.tree()).filter((line) => !before.includes(line));
  assert.deepEqual(left, ["run 755", "var/cache 755"], "folders that every system has");
});

Deno.test("a relay's folders come along, and stay at uninstall() until they are purged", async () => {
  const files = {
    "relay.json": "id",
    "policy.yaml": "a: 1",
    "more/policy.yaml": "b: 2",
    "ca/authority.key": "key",
  };
  const config = {
    mode: "relay",
    identity: "relay.json",
    policy: ["policy.yaml", "more/policy.yaml"],
    authority: { key: "ca/authority.key" },
    audit: { file: "/var/log/ginnel/audit.jsonl" },
  };
  await using ground = await Ground.create(files, config);
  const { home } = await ground.install();
  const read = await loadConfig(`${home}/config.json`);
  assert.ok(read.mode === "relay");
  assert.deepEqual(read.policy, [`${home}/policy.yaml`, `${home}/2-policy.yaml`]);
  assert.equal(await Deno.readTextFile(`${home}/2-policy.yaml`), "b: 2");
  assert.equal(await Deno.readTextFile(`${home}/authority.key`), "key");
  assert.equal((read.audit as { file: string }).file, `${home}/audit.jsonl`, "where it may write");
  assert.equal(await ground.manager.uninstall("relay", { purge: false }), home);
  await assert.rejects(ground.install(), { code: "ERR_SERVICE_INSTALLED" });
  assert.deepEqual(await ground.manager.installed(), ["relay"]);
  await ground.manager.uninstall("relay", { purge: true });
  assert.deepEqual(await ground.manager.installed(), []);
});

Deno.test("an SVID's files stay where others keep them fresh", async () => {
  const identity = { certificate: "svid.pem", key: "svid.key", network: "network.json" };
  const files = { "svid.pem": "c", "svid.key": "k", "network.json": "n" };
  await using ground = await Ground.create(files, { ...AGENT, identity });
  const { home } = await ground.install();
  const config = await loadConfig(`${home}/config.json`);
  assert.ok(config.mode === "agent");
  assert.deepEqual(config.identity, {
    certificate: `${ground.root}/home/svid.pem`,
    key: `${ground.root}/home/svid.key`,
    network: `${ground.root}/home/network.json`,
  });
});

Deno.test("a second installation is refused and changes nothing; a broken config installs nothing", async () => {
  await using ground = await Ground.create({ "keys/alice.json": "secret" }, AGENT);
  const before = await ground.tree();
  await Deno.writeTextFile(`${ground.root}/home/config.json`, "{");
  await assert.rejects(ground.install());
  await Deno.writeTextFile(`${ground.root}/home/config.json`, JSON.stringify(AGENT));
  assert.deepEqual(await ground.tree(), before);
  await ground.install();
  const installed = await ground.tree();
  await assert.rejects(ground.install(), { code: "ERR_SERVICE_INSTALLED" });
  assert.deepEqual(await ground.tree(), installed);
});

/** A system's root in a temporary folder, with a config in `home`. */
class Ground implements AsyncDisposable {
  readonly root: string;
  readonly manager: ServiceManager;

  private constructor(root: string) {
    this.root = root;
    this.manager = new ServiceManager(root);
  }

  static async create(files: Readonly<Record<string, string>>, config: unknown): Promise<Ground> {
    const root = await Deno.makeTempDir();
    for (const folder of ["home", "etc/systemd/system", "var/lib"]) {
      await Deno.mkdir(`${root}/${folder}`, { recursive: true });
    }
    // There already: systemd's own, and others' services live in it.
    await Deno.mkdir(`${root}/var/lib/private/another`, { recursive: true });
    for (const [name, text] of Object.entries({ ...files, "config.json": JSON.stringify(config) })) {
      const path = `${root}/home/${name}`;
      await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
      await Deno.writeTextFile(path, text, { mode: 0o600 });
    }
    return new Ground(root);
  }

  install(): ReturnType<ServiceManager["install"]> {
    return this.manager.install({ config: `${this.root}/home/config.json`, program: PROGRAM, now: false });
  }

  /** Every path with its mode. */
  async tree(): Promise<string[]> {
    const lines: string[] = [];
    const walk = async (folder: string) => {
      for await (const { name } of Deno.readDir(`${this.root}/${folder}`)) {
        const path = folder === "" ? name : `${folder}/${name}`;
        const { mode, isDirectory } = await Deno.lstat(`${this.root}/${path}`);
        lines.push(`${path} ${((mode ?? 0) & 0o777).toString(8)}`);
        if (isDirectory) await walk(path);
      }
    };
    await walk("");
    return lines.sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.root, { recursive: true });
  }
}
