/** Where the library is found in each form of the program. */

import assert from "node:assert/strict";
import { buildShim } from "../../../src/io/tun/build_shim.ts";
import { openEmbedded, openShim } from "../../../src/io/tun/shim.ts";
import { runCommand } from "../../support/processes.ts";
import { needsTool, testNeeding } from "../../support/require_tool.ts";

const ROOT = new URL("../../..", import.meta.url).pathname;
const NEEDS = [needsTool("gcc")];

testNeeding(NEEDS, "from source the library is built and opened", () => {
  const shim = openShim();
  assert.ok(shim.symbols.tun_pending_size() > 65_536);
  shim.close();
});

testNeeding(NEEDS, "a library inside the program is opened from memory", () => {
  const { path } = buildShim({ source: `${ROOT}src/io/tun/shim.c`, cache: `${ROOT}.cache/tun` });
  const before = [...Deno.readDirSync("/proc/self/fd")].length;
  const shim = openEmbedded(path);
  assert.ok(shim.symbols.tun_pending_size() > 65_536);
  assert.match(Deno.readTextFileSync("/proc/self/maps"), /memfd:ginnel_tun\.so/);
  assert.equal([...Deno.readDirSync("/proc/self/fd")].length, before);
  shim.close();
  assert.throws(() => openEmbedded(`${ROOT}deno.json`), { code: "ERR_TUN_LIBRARY" });
});

testNeeding(NEEDS, "it opens with the permissions that compile.sh gives, and no more", async () => {
  const { path } = buildShim({ source: `${ROOT}src/io/tun/shim.c`, cache: `${ROOT}.cache/tun` });
  const listed = /^permissions=\(([^)]+)\)/m.exec(await Deno.readTextFile(`${ROOT}compile.sh`))?.[1] ?? "";
  const permissions = listed.split(/\s+/);
  assert.ok(permissions.includes("--allow-ffi") && !permissions.includes("--allow-all"));
  const program = `
    import { openEmbedded } from ${JSON.stringify(`${ROOT}src/io/tun/shim.ts`)};
    console.log(openEmbedded(${JSON.stringify(path)}).symbols.tun_pending_size() > 65536);`;
  const run = [Deno.execPath(), "run", "--quiet", ...permissions, "--ext=ts", "-"];
  assert.equal(await runCommand(run, { stdin: program }), "true\n");
});

testNeeding(
  NEEDS,
  "a packed program takes the library it was packed with, and says when there is none",
  async () => {
    const folder = await Deno.makeTempDir({ prefix: "ginnel-shim-" });
    try {
      await Deno.writeTextFile(
        `${folder}/entry.ts`,
        `import { openShim } from ${JSON.stringify(`${ROOT}src/io/tun/shim.ts`)};
       try { const shim = openShim(); console.log(shim.symbols.tun_pending_size() > 65536); }
       catch (error) { console.log(error.code, error.message); }`,
      );
      const bundle = [
        "bundle",
        "--quiet",
        "--platform=deno",
        `--output=${folder}/bundle.mjs`,
        `${folder}/entry.ts`,
      ];
      await runCommand([Deno.execPath(), ...bundle], { cwd: ROOT });
      const start = (env: Record<string, string>) =>
        runCommand([Deno.execPath(), "run", "-A", "--no-config", `${folder}/bundle.mjs`], { env });
      const { path } = buildShim({ source: `${ROOT}src/io/tun/shim.c`, cache: `${ROOT}.cache/tun` });
      assert.equal(await start({ GINNEL_LIBRARY: path }), "true\n");
      assert.match(await start({ GINNEL_LIBRARY: `${folder}/none.so` }), /^ERR_TUN_LIBRARY/);
      assert.match(await start({}), /^ERR_TUN_LIBRARY .*not packed/);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
);
