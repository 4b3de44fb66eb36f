/** `ginnel service` as people type it. */

import assert from "node:assert/strict";
import { main } from "../../src/cli/main.ts";
import { Printed } from "./demo_folder.ts";

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const io = new Printed();
  const code = await main(["service", ...args], io);
  return { code, out: io.out, err: io.err };
}

async function withRoot(work: (root: string, config: string) => Promise<void>): Promise<void> {
  const root = await Deno.makeTempDir();
  try {
    const config = `${root}/connector.json`;
    await Deno.writeTextFile(
      config,
      JSON.stringify({
        mode: "connector",
        identity: "id.json",
        services: [{ name: "web", upstream: "tcp://127.0.0.1:80" }],
      }),
    );
    await work(root, config);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
}

Deno.test("service install says where things are and what to do next; uninstall finds the one there is", () =>
  withRoot(async (root, config) => {
    const installed = await run("install", "--config", config, "--program", "/opt/ginnel", "--root", root);
    assert.deepEqual([installed.code, installed.err], [0, ""]);
    assert.match(
      installed.out,
      /^Installed .*\/ginnel-connector\.service\n.*systemctl enable --now ginnel-connector\n$/s,
    );
    assert.match(
      await Deno.readTextFile(`${root}/etc/systemd/system/ginnel-connector.service`),
      /^ExecStart=\/opt\/ginnel run /m,
    );
    const again = await run("install", "--config", config, "--program", "/opt/ginnel", "--root", root);
    assert.equal(again.code, 1);
    assert.match(again.err, /is there already\. Run ginnel service uninstall --mode connector first/);
    assert.deepEqual(await run("uninstall", "--root", root), {
      code: 0,
      out: "Removed ginnel-connector\n",
      err: "",
    });
    const gone = await run("uninstall", "--root", root);
    assert.deepEqual([gone.code, gone.err], [1, "ginnel service uninstall: No node is installed here\n"]);
  }));

Deno.test("service show prints the unit and writes nothing", () =>
  withRoot(async (root, config) => {
    const { code, out } = await run("show", "--config", config, "--program", "/opt/ginnel");
    assert.equal(code, 0);
    assert.match(out, /^ExecStart=\/opt\/ginnel run --config \$\{STATE_DIRECTORY\}\/config\.json$/m);
    assert.deepEqual([...Deno.readDirSync(root)].map(({ name }) => name), ["connector.json"]);
  }));

Deno.test("service refuses words, modes, roots and programs that make no sense", () =>
  withRoot(async (_root, config) => {
    for (
      const args of [
        [],
        ["remove"],
        ["install"],
        ["uninstall", "--mode", "agents", "--root", "/nonexistent"],
        ["uninstall", "--root", "relative"],
        ["show", "--config", config, "--program", "ginnel"],
        ["show", "--config", config, "--program", "/opt/a b\nExecStartPre=/bin/sh"],
      ]
    ) {
      assert.equal((await run(...args)).code, 2, args.join(" "));
    }
    assert.equal((await run("show", "--config", "/nonexistent.json", "--program", "/opt/ginnel")).code, 2);
  }));
