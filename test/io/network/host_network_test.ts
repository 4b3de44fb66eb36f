import assert from "node:assert/strict";
import { ManagedProcess } from "../../support/processes.ts";
import { testNeeding } from "../../support/require_tool.ts";
import { setUpAll } from "./set_up_all.ts";
import { assertSame, countedCommands, type Ground, NEEDS, onGround } from "./ground.ts";
import { TUNNEL } from "./values.ts";

/** Those of the compiled program that matter here: files of /proc are beyond them. */
const PERMISSIONS = [
  "--no-prompt",
  "--allow-net",
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-sys",
]
  .concat("--allow-ffi", "--allow-run=ip,nft,nmcli,resolvectl");

const CHILD = new URL("./set_up_and_wait.ts", import.meta.url).pathname;

testNeeding(
  NEEDS,
  "everything set up twice is set up once, and undone leaves nothing",
  () =>
    onGround(async (ground) => {
      const before = await ground.picture();
      const { commands, writes } = countedCommands();
      const network = await ground.open({ commands });
      await setUpAll(network);
      const during = await ground.picture();
      assert.notEqual(during, before);
      const count = writes.length;
      assert.ok(count >= 4, "the first time commands were executed");
      await setUpAll(network);
      assertSame(await ground.picture(), during);
      assert.equal(writes.length, count, "the second time none was");
      await network.close();
      await network.close();
      assertSame(await ground.picture(), before);
      assert.deepEqual(await journals(ground), []);
    }),
);

testNeeding(
  NEEDS,
  "what a killed process left is undone by the next start, but for the kill switch",
  () =>
    onGround(async (ground) => {
      const before = await ground.picture();
      await kill(ground);
      const left = await ground.picture();
      assert.notEqual(left, before);
      assert.match(left, /table inet ginnel_KILL_/);
      {
        await using _network = await ground.open({ keepKillSwitch: true });
        const kept = await ground.picture();
        assert.match(kept, /table inet ginnel_KILL_/);
        assertSame(kept.replace(/table inet ginnel_KILL_[^]*?\n\}\n/, ""), before);
      }
      assertSame(await ground.picture(), before);
    }),
);

testNeeding(
  NEEDS,
  "a killed process's NAT stays until the next one replaces it, for connections that go through it",
  () =>
    onGround(async (ground) => {
      const before = await ground.picture();
      await kill(ground);
      const nat = /table inet ginnel_(?!KILL)[^]*?\n\}\n/;
      const [left] = nat.exec(await ground.picture()) ?? [];
      assert.match(left ?? "", /masquerade/);
      {
        await using network = await ground.open({ keepNat: true });
        assert.equal(nat.exec(await ground.picture())?.[0], left);
        await setUpAll(network);
      }
      assertSame(await ground.picture(), before);
    }),
);

testNeeding(
  NEEDS,
  "a start that wants no kill switch lifts a killed process's",
  () =>
    onGround(async (ground) => {
      const before = await ground.picture();
      await kill(ground);
      await using _network = await ground.open();
      assertSame(await ground.picture(), before);
    }),
);

testNeeding(NEEDS, "a kill switch is lifted even when its journal is lost", () =>
  onGround(async (ground) => {
    await kill(ground);
    for (const name of await journals(ground)) await Deno.remove(`${ground.directory}/${name}`);
    await using _network = await ground.open();
    assert.doesNotMatch(await ground.shell("nft list ruleset"), /ginnel/);
  }));

testNeeding(
  NEEDS,
  "the tunnel's interface is gone with its process, and the rest is undone all the same",
  () =>
    onGround(async (ground) => {
      await ground.shell(`ip link del ${TUNNEL}`);
      const before = await ground.picture();
      await ground.shell(`ip tuntap add dev ${TUNNEL} mode tun`);
      await kill(ground);
      await ground.shell(`ip link del ${TUNNEL}`);
      assert.match(await ground.shell("ip -6 route show proto 71"), /fd99::5/);
      await using _network = await ground.open();
      assertSame(await ground.picture(), before);
    }),
);

testNeeding(NEEDS, "a living process's set-up is not touched, and says so", () =>
  onGround(async (ground) => {
    await using child = start(ground);
    await child.waitForLine(/^ready$/);
    const during = await ground.picture();
    await assert.rejects(ground.open(), { code: "ERR_NETWORK_IN_USE" });
    assertSame(await ground.picture(), during);
    child.signal("SIGKILL");
    await child.ended;
    await using _network = await ground.open();
  }));

testNeeding(
  NEEDS,
  "a start cleans up after another that was killed while it cleaned up",
  () =>
    onGround(async (ground) => {
      const before = await ground.picture();
      await kill(ground);
      await assert.rejects(async () => {
        const { commands } = countedCommands();
        let left = 2;
        const network = await ground.open({
          commands: {
            run: (...call) => left-- > 0 ? commands.run(...call) : Promise.reject(new Error("Killed")),
          },
        });
        await network.close();
      });
      await using _network = await ground.open();
      assertSame(await ground.picture(), before);
    }),
);

function start(ground: Ground): ManagedProcess {
  const command = [
    Deno.execPath(),
    "run",
    ...PERMISSIONS,
    CHILD,
    TUNNEL,
    ground.directory,
    ground.resolvConf,
  ];
  return ManagedProcess.spawn(ground.command(command));
}

async function kill(ground: Ground): Promise<void> {
  await using child = start(ground);
  await child.waitForLine(/^ready$/);
  await child.stop({ signal: "SIGKILL" });
}

async function journals(ground: Ground): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(ground.directory)) names.push(name);
  return names.filter((name) => name.startsWith("network-"));
}
