import assert from "node:assert/strict";
import { buildShim } from "../../../src/io/tun/build_shim.ts";
import { needsTool, testNeeding } from "../../support/require_tool.ts";

const SOURCE = new URL("../../../src/io/tun/shim.c", import.meta.url).pathname;
const NEEDS = [needsTool("gcc")];
const CROSS = needsTool("aarch64-linux-gnu-gcc");

testNeeding(NEEDS, "the library is built once per content, and kept", () => {
  using folder = new Folder();
  const cache = `${folder.path}/new/cache`;
  const first = buildShim({ source: SOURCE, cache });
  const again = buildShim({ source: SOURCE, cache, compilers: [] });
  assert.equal(again.path, first.path);
  first.release();
  assert.ok(Deno.statSync(first.path).isFile);
  assert.equal([...Deno.readDirSync(cache)].length, 1);
  const changed = `${folder.path}/shim.c`;
  Deno.writeTextFileSync(changed, `${Deno.readTextFileSync(SOURCE)}\n`);
  assert.notEqual(buildShim({ source: changed, cache }).path, first.path);
});

testNeeding(NEEDS, "where nothing can be kept it is built for this once", () => {
  using folder = new Folder();
  Deno.writeTextFileSync(`${folder.path}/file`, "");
  const built = buildShim({ source: SOURCE, cache: `${folder.path}/file/cache` });
  assert.ok(Deno.statSync(built.path).isFile);
  built.release();
  assert.throws(() => Deno.statSync(built.path), Deno.errors.NotFound);
});

Deno.test("without a compiler it says what to install", () => {
  using folder = new Folder();
  const build = () => buildShim({ source: SOURCE, cache: folder.path, compilers: ["/nonexistent/cc"] });
  assert.throws(build, { code: "ERR_TUN_NO_COMPILER", hint: /apt-get install -y gcc/ });
  assert.deepEqual([...Deno.readDirSync(folder.path)], []);
});

testNeeding(NEEDS, "what the compiler says is passed on", () => {
  using folder = new Folder();
  const source = `${folder.path}/broken.c`;
  Deno.writeTextFileSync(source, "/*\n * build: -shared\n */\nint broken(\n");
  assert.throws(() => buildShim({ source, cache: folder.path }), {
    code: "ERR_TUN_BUILD",
    message: /broken\.c:4/,
  });
});

testNeeding([CROSS], "the source builds for arm64 too, without a warning", async () => {
  using folder = new Folder();
  const built = buildShim({ source: SOURCE, cache: folder.path, compilers: [CROSS.path] });
  const head = (await Deno.readFile(built.path)).subarray(0, 20);
  assert.deepEqual([...head.subarray(0, 4), head[18]], [0x7f, 0x45, 0x4c, 0x46, 183]);
});

class Folder implements Disposable {
  readonly path = Deno.makeTempDirSync({ prefix: "ginnel-build-" });

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}
