/** What killed processes left at the resolver is found and put back by somebody else, and by nobody while they live. */

import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { findResolverLeftovers, undoResolverLeftovers } from "../../../src/io/network/resolver_leftovers.ts";
import { ServiceDns } from "../../../src/io/network/service_dns.ts";
import { NetworkJournal } from "../../../src/io/network/journal.ts";
import { fakeCommands, fakeContext, listeningLogger, scratch } from "./fakes.ts";
import { ip, TUNNEL } from "./values.ts";

const PLAN = { servers: [ip("10.101.0.1")], domains: ["ginnel.internal"] };
const BEFORE = "nameserver 192.0.2.53\n";

Deno.test("a dead process's resolv.conf is put back, by its journal or by the file alone; its other traces stay", async () => {
  for (const hasJournal of [true, false]) {
    await using ground = await setUp(BEFORE);
    await ground.dns.apply(PLAN);
    await ground.journal.update(hasJournal ? { killSwitch: true } : { resolver: undefined });
    assert.deepEqual(await findResolverLeftovers(ground.places), [], "its owner lives");
    await undoResolverLeftovers({ logger: SILENT_LOGGER, places: ground.places });
    assert.notEqual(await ground.text(), BEFORE);

    await ground.die();
    const found = await findResolverLeftovers(ground.places);
    assert.deepEqual(found.map((leftover) => leftover.interface), [TUNNEL]);
    const { logger, events } = listeningLogger();
    await undoResolverLeftovers({ logger, places: ground.places });
    assert.deepEqual(events, ["resolver_put_back"]);
    assert.equal(await ground.text(), BEFORE);
    assert.deepEqual(await findResolverLeftovers(ground.places), []);
    if (!hasJournal) continue;
    await using journal = await ground.reopen();
    assert.deepEqual(journal.data, { killSwitch: true }, "that is for its own next start");
  }
});

Deno.test("what was told to systemd-resolved is taken back there", async () => {
  await using ground = await setUp("nameserver 127.0.0.53\n");
  await ground.dns.apply(PLAN);
  await ground.die();
  const { commands, calls } = fakeCommands();
  await undoResolverLeftovers({ logger: SILENT_LOGGER, commands, places: ground.places });
  assert.deepEqual(calls, [`resolvectl revert ${TUNNEL}`]);
});

Deno.test("a file that says it is ours and is not, and folders that are not there, are nobody's leftovers", async () => {
  for (const text of ["", "# Written by ginnel (/etc/shadow), put back when it stops: 0123456789abcdef\n"]) {
    await using ground = await setUp(text);
    await ground.die();
    assert.deepEqual(await findResolverLeftovers(ground.places), []);
    assert.deepEqual(await findResolverLeftovers({ directories: [], resolvConf: "/nowhere" }), []);
  }
});

async function setUp(text: string) {
  const state = await scratch();
  const folder = await scratch();
  const resolvConf = `${folder.path}/resolv.conf`;
  await Deno.writeTextFile(resolvConf, text);
  const fake = await fakeContext(state.path);
  const networkManagerFolder = `${folder.path}/conf.d`;
  return {
    places: { directories: [state.path], resolvConf },
    dns: new ServiceDns({ interface: TUNNEL, path: resolvConf, networkManagerFolder }, fake.context),
    journal: fake.context.journal,
    text: () => Deno.readTextFile(resolvConf),
    reopen: () => NetworkJournal.open(TUNNEL, { logger: SILENT_LOGGER, directory: state.path }),
    /** Only the lock goes with a process. */
    die: () => fake[Symbol.asyncDispose](),
    [Symbol.asyncDispose]: async () => {
      await fake[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
      await state[Symbol.asyncDispose]();
    },
  };
}
