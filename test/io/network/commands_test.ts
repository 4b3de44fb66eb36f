import assert from "node:assert/strict";
import type { GinnelError } from "../../../src/base/errors.ts";
import { runBatch } from "../../../src/io/network/batch.ts";
import { runChecked, systemCommands } from "../../../src/io/network/commands.ts";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { runCommand } from "../../support/processes.ts";
import { testNeeding } from "../../support/require_tool.ts";
import { fakeCommands, scratch } from "./fakes.ts";
import { NEEDS, onGround } from "./ground.ts";
import { TUNNEL } from "./values.ts";

const LIST = { program: "ip", args: ["link"], purpose: "look" } as const;

Deno.test("a program that fails is named, with its words, the purpose and a remedy", async () => {
  const fails = (stderr: string) => fakeCommands(() => ({ code: 2, stderr })).commands;
  await assert.rejects(runChecked(fails("RTNETLINK answers: File exists\nmore\n"), LIST), {
    code: "ERR_NETWORK_COMMAND",
    message: "Cannot look: ip says: RTNETLINK answers: File exists",
  });
  for (
    const words of [
      "RTNETLINK answers: Operation not permitted",
      "Error: Could not process rule: Permission denied",
    ]
  ) {
    await assert.rejects(runChecked(fails(words), LIST), {
      code: "ERR_NETWORK_PERMISSION",
      hint: /setcap cap_net_admin\+ep FILE.*AmbientCapabilities=CAP_NET_ADMIN.*--cap-add NET_ADMIN/,
    });
  }
  await assert.rejects(runChecked(fails(""), LIST), { message: /exit code 2/ });
});

Deno.test("a program that is not installed is named, with its package", async () => {
  const path = Deno.env.get("PATH") ?? "";
  await using folder = await scratch();
  try {
    Deno.env.set("PATH", folder.path);
    await assert.rejects(async () => await systemCommands().run("nft", []), (error: GinnelError) => {
      assert.equal(error.code, "ERR_NETWORK_TOOL");
      assert.match(error.hint ?? "", /nftables/);
      return true;
    });
  } finally {
    Deno.env.set("PATH", path);
  }
});

Deno.test("a batch that stops is undone up to there, last first", async () => {
  const { commands, calls } = fakeCommands((_, args) =>
    args[0] === "-batch" ? { code: 1, stderr: "Error: no\nCommand failed -:3\n" } : {}
  );
  const steps = ["a", "b", "c", "d"].map((name) => ({ run: `do ${name}`, undo: `undo ${name}` }));
  await assert.rejects(runBatch(steps, { commands, logger: SILENT_LOGGER, purpose: "test" }), {
    message: "Cannot test: ip says: Error: no",
    hint: /`ip do c`/,
  });
  assert.equal(calls.at(-1), "ip -force -batch - <undo b\nundo a\n");
  await runBatch([], { commands, logger: SILENT_LOGGER, purpose: "test" });
  assert.equal(calls.length, 2);
});

testNeeding(
  NEEDS,
  "an ordinary user's program that was given just CAP_NET_ADMIN by setcap sets everything up",
  () =>
    onGround(async (ground) => {
      await using folder = await scratch();
      const program = `${folder.path}/deno`;
      await Deno.copyFile(Deno.execPath(), program);
      await Deno.chmod(program, 0o755);
      grantNetAdmin(program);
      await Deno.chmod(folder.path, 0o755);
      // What the source imports must be readable to that user.
      const source = new URL("../../../", import.meta.url).pathname;
      await runCommand(["cp", "-r", `${source}src`, `${source}deno.json`, folder.path]);
      await runCommand(["mkdir", "-p", `${folder.path}/test/io`]);
      await runCommand(["cp", "-r", `${source}test/io/network`, `${folder.path}/test/io/network`]);
      await runCommand(["chmod", "-R", "a+rX", folder.path]);
      const state = `${folder.path}/state`;
      await Deno.mkdir(state);
      await Deno.writeTextFile(`${state}/resolv.conf`, "nameserver 192.0.2.1\n");
      await runCommand(["chown", "-R", `${USER}:${USER}`, state]);
      const child = `${folder.path}/test/io/network/set_up_and_end.ts`;
      const command = (...prefix: string[]) =>
        ground.command([
          ...prefix,
          "env",
          `DENO_DIR=${state}/cache`,
          program,
          "run",
          "-A",
          child,
          TUNNEL,
          state,
        ]);
      const before = await ground.picture();
      const output = await runCommand(command("setpriv", "--reuid", USER, "--regid", USER, "--clear-groups"));
      assert.match(output, /^set up by 65534$/m);
      assert.match(output, new RegExp(`0\\.0\\.0\\.0/1 dev ${TUNNEL}`));
      assert.match(output, /masquerade/);
      assert.equal(await ground.picture(), before);
      grantNothing(program);
      await assert.rejects(
        runCommand(command("setpriv", "--reuid", USER, "--regid", USER, "--clear-groups")),
        /ERR_NETWORK_PERMISSION/,
      );
    }),
);

/** nobody */
const USER = "65534";

/** vfs_cap_data, revision 2: effective at once; permitted and inheritable, the low words before the high. */
function grantNetAdmin(path: string): void {
  const data = new Uint32Array([0x0200_0001, 1 << 12, 0, 0, 0]);
  attribute((libc) => libc.symbols.setxattr(text(path), CAPABILITY, data, 20n, 0));
}

function grantNothing(path: string): void {
  attribute((libc) => libc.symbols.removexattr(text(path), CAPABILITY));
}

const CAPABILITY = text("security.capability");
const SYMBOLS = {
  setxattr: { parameters: ["buffer", "buffer", "buffer", "usize", "i32"], result: "i32" },
  removexattr: { parameters: ["buffer", "buffer"], result: "i32" },
} as const;

function attribute(change: (libc: Deno.DynamicLibrary<typeof SYMBOLS>) => number): void {
  const libc = Deno.dlopen("libc.so.6", SYMBOLS);
  try {
    assert.equal(change(libc), 0, "the file system keeps capabilities");
  } finally {
    libc.close();
  }
}

function text(value: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${value}\0`);
}
