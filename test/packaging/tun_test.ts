/**
 * TUN interfaces from the self-extracting file: the library that is packed with it, and the rights that `setcap`
 * gives to the file. A probe program stands in for the product.
 */

import assert from "node:assert/strict";
import { needsNetworkNamespaces, needsTool, testNeeding } from "../support/require_tool.ts";
import { build, emptyFolder, NATIVE, startBare, type Started } from "./compiled_file.ts";

const UNSHARE = needsTool("unshare", { install: "part of every Linux system" });
const SETPRIV = needsTool("setpriv", { install: "part of every Linux system" });
const COMPILER = [needsTool("npm"), needsTool("gcc")];
const NEEDS = [...COMPILER, needsNetworkNamespaces(), UNSHARE, SETPRIV];

const NOBODY = 65_534;
/** The standard one, without what a user may have put in front. */
const SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const NET_ADMIN = 12;
const SYS_ADMIN = 21;

const packed = () => build({ arch: NATIVE, entry: "test/packaging/probe.ts", pack: "selfextract" });

testNeeding(NEEDS, "the packed file opens a TUN interface with the library it carries", async () => {
  await using home = await emptyFolder();
  const inside = [UNSHARE.path, "-n"];
  const { stdout, stderr } = await startBare([...inside, await packed(), "tun", "gp0"], {
    folder: home.path,
    env: { HOME: home.path, PATH: SAFE_PATH, GINNEL_LIBRARY: "/nonexistent.so" },
  });
  const { opened, children } = JSON.parse(stdout || stderr);
  assert.deepEqual([opened, children], ["gp0", true]);
});

testNeeding(NEEDS, "an ordinary user is told what is missing", async () => {
  await using place = await nobodysFile();
  const { code, message } = JSON.parse((await place.start(["tun", "gp0"])).stdout);
  assert.equal(code, "ERR_TUN_NO_PRIVILEGE", message);
});

testNeeding(
  NEEDS,
  "setcap on the file gives an ordinary user TUN interfaces, and `ip` the right to set them up",
  async () => {
    for (const effective of [true, false]) {
      await using place = await nobodysFile();
      place.grant({ capability: NET_ADMIN, effective });
      const { stdout, stderr } = await place.start(["tun", "gp0"]);
      const { opened, children, runtime } = JSON.parse(stdout || JSON.stringify({ stderr }));
      assert.deepEqual([opened, children], ["gp0", true], stdout + stderr);
      // What lies in the user's own cache must not run with this right.
      assert.match(runtime, /^\/memfd:ginnel/);
      assert.deepEqual([...Deno.readDirSync(place.home)], []);
    }
  },
);

testNeeding(
  NEEDS,
  "a file with capabilities takes nothing from the environment that could change what runs",
  async () => {
    await using place = await nobodysFile();
    place.grant({ capability: NET_ADMIN, effective: true });
    const { stdout } = await place.start(["environment"], {
      env: {
        PATH: `${place.home}:/usr/bin`,
        LD_LIBRARY_PATH: place.home,
        LD_PRELOAD: `${place.home}/evil.so`,
        DENO_V8_FLAGS: "--help",
        NODE_OPTIONS: "--require=evil",
        IP_LIB_DIR: place.home,
        GINNEL_LIBRARY: `${place.home}/evil.so`,
        GINNEL_PROGRAM: `${place.home}/evil`,
        XDG_RUNTIME_DIR: "/run/user/65534",
      },
    });
    const environment = JSON.parse(stdout);
    assert.match(environment.GINNEL_LIBRARY, /^\/proc\/self\/fd\/\d+$/);
    assert.equal(environment.GINNEL_PROGRAM, place.file);
    delete environment.GINNEL_LIBRARY;
    delete environment.GINNEL_PROGRAM;
    assert.deepEqual(environment, {
      PATH: SAFE_PATH,
      HOME: place.home,
      XDG_RUNTIME_DIR: "/run/user/65534",
      DENO_DIR: "/proc/none",
      DENO_NO_UPDATE_CHECK: "1",
      DENO_NO_PACKAGE_JSON: "1",
    });
  },
);

testNeeding(
  NEEDS,
  "a capability that is only permitted hinders nobody where it is not to be had",
  async () => {
    await using place = await nobodysFile();
    place.grant({ capability: NET_ADMIN, effective: false });
    const { stdout } = await place.start(["tun", "gp0"], { rights: ["--bounding-set=-net_admin"] });
    assert.equal(JSON.parse(stdout).code, "ERR_TUN_NO_PRIVILEGE");
    assert.deepEqual([...Deno.readDirSync(place.home)].map(({ name }) => name), [".cache"]);
  },
);

testNeeding(NEEDS, "a file with any other capability, or with setuid, refuses to run", async () => {
  await using place = await nobodysFile();
  place.grant({ capability: SYS_ADMIN, effective: true });
  const refused = await place.start(["tell"]);
  assert.deepEqual([refused.code, refused.stdout], [1, ""]);
  assert.match(refused.stderr, /^ginnel: refuses to run with the rights/);
  await using setuid = await nobodysFile();
  await Deno.chmod(setuid.file, 0o4755);
  assert.match((await setuid.start(["tell"])).stderr, /^ginnel: refuses to run with the rights/);
});

/** A copy of the packed file and a home, both for the user nobody, who starts it in a network namespace of its own. */
async function nobodysFile() {
  const file = await packed();
  const folder = await emptyFolder();
  await Deno.chmod(folder.path, 0o755);
  const copy = `${folder.path}/ginnel`, home = `${folder.path}/home`;
  await Deno.copyFile(file, copy);
  await Deno.chmod(copy, 0o755);
  await Deno.mkdir(home);
  await Deno.chown(home, NOBODY, NOBODY);
  const user = [SETPRIV.path, `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"];
  return {
    file: copy,
    home,
    grant: (wanted: Capability) => setCapability(copy, wanted),
    start: (
      args: readonly string[],
      { env = {}, rights = [] }: { env?: Record<string, string>; rights?: readonly string[] } = {},
    ): Promise<Started> => {
      const variables = Object.entries({ HOME: home, PATH: SAFE_PATH, ...env }).map(([key, value]) =>
        `${key}=${value}`
      );
      // The variables are set last: they are meant for the file alone.
      const command = [
        UNSHARE.path,
        "-n",
        ...user,
        ...rights,
        "/usr/bin/env",
        "-i",
        ...variables,
        copy,
        ...args,
      ];
      return startBare(command, { folder: home, env: {} });
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

interface Capability {
  readonly capability: number;
  readonly effective: boolean;
}

/** What `setcap` does: writes the attribute that the kernel reads (struct vfs_cap_data, version 2). */
function setCapability(path: string, { capability, effective }: Capability): void {
  const libc = Deno.dlopen("libc.so.6", {
    setxattr: { parameters: ["buffer", "buffer", "buffer", "usize", "i32"], result: "i32" },
  });
  const value = new Uint32Array([0x0200_0000 | (effective ? 1 : 0), 1 << capability, 0, 0, 0]);
  const text = new TextEncoder();
  const name = text.encode("security.capability\0");
  const result = libc.symbols.setxattr(text.encode(`${path}\0`), name, value, BigInt(value.byteLength), 0);
  libc.close();
  assert.equal(result, 0, "setxattr failed");
}
