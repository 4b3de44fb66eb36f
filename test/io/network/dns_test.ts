import assert from "node:assert/strict";
import { TunnelDns } from "../../../src/io/network/dns.ts";
import { readMark, renderResolvConf } from "../../../src/io/network/resolv_conf.ts";
import { ManagedProcess } from "../../support/processes.ts";
import { testNeeding } from "../../support/require_tool.ts";
import { type Answer, fakeContext, listeningLogger, scratch } from "./fakes.ts";
import { NEEDS, onGround } from "./ground.ts";
import { ip, TUNNEL } from "./values.ts";

const SERVERS = [ip("10.100.0.53"), ip("fd10::53")];
const OWN = "search example.org\nnameserver 192.0.2.53\n";
const STUB = "nameserver 127.0.0.53\noptions edns0\n";

Deno.test("the file is replaced once, then put back as the very file it was", async () => {
  await using ground = await setUp(OWN);
  const before = await Deno.stat(ground.path);
  await ground.dns.apply(SERVERS);
  const text = await Deno.readTextFile(ground.path);
  assert.match(text, /\nnameserver 10\.100\.0\.53\nnameserver fd10::53\n$/);
  const ours = (await Deno.stat(ground.path)).ino;
  await ground.dns.apply(SERVERS);
  assert.equal((await Deno.stat(ground.path)).ino, ours, "nothing was written");
  await ground.dns.apply([ip("10.100.0.54")]);
  await ground.dns.close();
  await ground.dns.close();
  const after = await Deno.stat(ground.path);
  assert.deepEqual([after.ino, after.mode], [before.ino, before.mode]);
  assert.equal(await ground.text(), OWN);
  assert.deepEqual(ground.names(), ["resolv.conf"]);
});

Deno.test("a symbolic link comes back as the link, whole or dangling", async () => {
  for (const target of ["/nowhere/resolv.conf", "there.conf"]) {
    await using ground = await setUp(undefined);
    await Deno.writeTextFile(`${ground.folder}/there.conf`, OWN);
    await Deno.symlink(target, ground.path);
    await ground.dns.apply(SERVERS);
    assert.ok((await Deno.lstat(ground.path)).isFile);
    assert.equal(
      await Deno.readTextFile(`${ground.folder}/there.conf`),
      OWN,
      "what it points to is untouched",
    );
    await ground.dns.close();
    assert.equal(await Deno.readLink(ground.path), target);
  }
});

Deno.test("where there was no file, there is none afterwards", async () => {
  await using ground = await setUp(undefined);
  await ground.dns.apply(SERVERS);
  assert.match(await ground.text(), /10\.100\.0\.53/);
  await ground.dns.close();
  assert.deepEqual(ground.names(), []);
});

Deno.test("what somebody changed since stays, and is told of", async () => {
  for (const change of ["replaced", "appended"]) {
    await using ground = await setUp(OWN);
    await ground.dns.apply(SERVERS);
    const text = change === "replaced"
      ? "nameserver 198.51.100.1\n"
      : `${await ground.text()}nameserver 198.51.100.1\n`;
    await Deno.writeTextFile(ground.path, text);
    await ground.dns.close();
    assert.equal(await ground.text(), text);
    assert.ok(ground.events.includes("network_resolver_changed"));
    assert.deepEqual(ground.names(), ["resolv.conf"]);
  }
});

Deno.test("a file that came with a new network is the one to come back", async () => {
  await using ground = await setUp(OWN);
  await ground.dns.apply(SERVERS);
  const renewed = "nameserver 198.51.100.1\n";
  await Deno.remove(ground.path);
  await Deno.writeTextFile(ground.path, renewed);
  await ground.dns.apply(SERVERS);
  assert.match(await ground.text(), /10\.100\.0\.53/);
  await ground.dns.close();
  assert.equal(await ground.text(), renewed);
});

Deno.test("a killed process's file is put back, with a journal and without", async () => {
  for (const lost of [false, true]) {
    await using ground = await setUp(OWN);
    await ground.dns.apply(SERVERS);
    if (lost) await ground.context.journal.update({ resolver: undefined });
    await new TunnelDns({ interface: TUNNEL, path: ground.path }, ground.context).close();
    assert.equal(await ground.text(), OWN);
    assert.deepEqual(ground.names(), ["resolv.conf"]);
  }
});

Deno.test("a process that was killed while it wrote the file over left it empty: it is put back", async () => {
  await using ground = await setUp("");
  await ground.context.journal.update({ resolver: { kind: "overwritten", text: OWN } });
  await ground.dns.close();
  assert.equal(await ground.text(), OWN);
});

Deno.test("another living tunnel's file is left alone", async () => {
  await using ground = await setUp(OWN);
  const lock = `${ground.folder}/network-1-ginnel8.lock`;
  using file = await Deno.open(lock, { create: true, write: true });
  await file.lock(true);
  const theirs = renderResolvConf([ip("10.9.0.53")], lock);
  await Deno.writeTextFile(ground.path, theirs);
  await assert.rejects(ground.dns.apply(SERVERS), { code: "ERR_DNS_IN_USE" });
  await ground.dns.close();
  assert.equal(await ground.text(), theirs);
});

Deno.test("a file that cannot be written is named, with what to do", async () => {
  await using ground = await setUp(undefined);
  await Deno.mkdir(ground.path);
  await assert.rejects(ground.dns.apply(SERVERS), { code: "ERR_DNS_FILE", message: /resolv\.conf/ });
});

Deno.test("systemd-resolved is asked where names go to it, once, and reverted", async () => {
  await using ground = await setUp(STUB);
  await ground.dns.apply(SERVERS);
  await ground.dns.apply(SERVERS);
  assert.deepEqual(ground.calls, [
    "resolvectl dns ginnel7 10.100.0.53 fd10::53",
    "resolvectl domain ginnel7 ~.",
    "resolvectl default-route ginnel7 yes",
  ]);
  await ground.dns.close();
  await ground.dns.close();
  assert.deepEqual(ground.calls.slice(3), ["resolvectl revert ginnel7"]);
  assert.equal(await ground.text(), STUB);
});

Deno.test("where systemd-resolved does not answer, the file is replaced", async () => {
  await using ground = await setUp(STUB, () => ({ code: 1, stderr: "Failed to connect to bus" }));
  await ground.dns.apply(SERVERS);
  assert.match(await ground.text(), /10\.100\.0\.53/);
  assert.ok(ground.events.includes("network_resolved_failed"));
  await ground.dns.close();
  assert.equal(await ground.text(), STUB);
});

Deno.test("readMark() knows our file, and whether it is as we wrote it", () => {
  const text = renderResolvConf(SERVERS, "/run/ginnel/network-1-ginnel7.lock");
  assert.deepEqual(readMark(text), { owner: "/run/ginnel/network-1-ginnel7.lock", intact: true });
  assert.equal(readMark(`${text}# more\n`)?.intact, false);
  for (let end = text.indexOf("\n") + 1; end < text.length; end++) {
    assert.equal(readMark(text.slice(0, end))?.intact, false);
  }
  assert.equal(readMark(OWN), undefined);
  assert.equal(readMark(`\n${text}`), undefined);
});

testNeeding(
  NEEDS,
  "a file mounted on its own, as in containers, is written over and put back",
  () =>
    onGround(async (ground) => {
      const child = new URL("./set_up_and_wait.ts", import.meta.url).pathname;
      const { directory, resolvConf } = ground;
      const before = await Deno.readTextFile(resolvConf);
      const run = `mount --bind ${resolvConf} ${resolvConf} && exec ${Deno.execPath()} run -A ${child}`;
      await using process = ManagedProcess.spawn(
        ground.command(["unshare", "--mount", "sh", "-c", `${run} ${TUNNEL} ${directory} ${resolvConf}`]),
      );
      await process.waitForLine(/^ready$/);
      assert.match(await Deno.readTextFile(resolvConf), /10\.100\.0\.53/);
      await process.stop({ signal: "SIGKILL" });
      await using _network = await ground.open();
      assert.equal(await Deno.readTextFile(resolvConf), before);
    }),
);

testNeeding(
  NEEDS,
  "a link whose target is mounted on its own, as `ip netns exec` does it, stays: it is the whole machine's",
  () =>
    onGround(async (ground) => {
      const child = new URL("./set_up_and_wait.ts", import.meta.url).pathname;
      const { directory, resolvConf } = ground;
      const machine = `${directory}/machine.conf`, namespace = `${directory}/namespace.conf`;
      await Deno.rename(resolvConf, machine);
      await Deno.symlink(machine, resolvConf);
      const before = await Deno.readTextFile(machine);
      await Deno.writeTextFile(namespace, "nameserver 10.77.0.2\n");
      const run = `mount --bind ${namespace} ${resolvConf} && exec ${Deno.execPath()} run -A ${child}`;
      await using process = ManagedProcess.spawn(
        ground.command(["unshare", "--mount", "sh", "-c", `${run} ${TUNNEL} ${directory} ${resolvConf}`]),
      );
      await process.waitForLine(/^ready$/);
      assert.equal(await Deno.readLink(resolvConf), machine);
      assert.equal(await Deno.readTextFile(machine), before);
      assert.match(await Deno.readTextFile(namespace), /10\.100\.0\.53/);
      assert.deepEqual([...Deno.readDirSync(directory)].filter(({ name }) => /\.ginnel-/.test(name)), []);
    }),
);

async function setUp(text: string | undefined, answer?: Answer) {
  const state = await scratch();
  const folder = await scratch();
  const path = `${folder.path}/resolv.conf`;
  if (text !== undefined) await Deno.writeTextFile(path, text, { mode: 0o640 });
  const { logger, events } = listeningLogger();
  const fake = await fakeContext(state.path, { logger, ...(answer === undefined ? {} : { answer }) });
  return {
    ...{ path, events, folder: folder.path, calls: fake.calls, context: fake.context },
    dns: new TunnelDns({ interface: TUNNEL, path }, fake.context),
    text: () => Deno.readTextFile(path),
    names: () => [...Deno.readDirSync(folder.path)].map(({ name }) => name).toSorted(),
    [Symbol.asyncDispose]: async () => {
      await fake[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
      await state[Symbol.asyncDispose]();
    },
  };
}
