/** What peers of an IP tunnel say on its stream: wrong capsules, and requests for addresses without end. */

import assert from "node:assert/strict";
import { concat, utf8 } from "../../src/base/bytes.ts";
import { encodeCapsule } from "../../src/wire/capsule/capsule.ts";
import { decodeAddressAssign } from "../../src/wire/capsule/connect_ip.ts";
import { Bystander, pingThrough } from "../support/bystander.ts";
import { eventually } from "../support/eventually.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { CAPSULE, Rogue } from "../support/rogue.ts";
import { INTERNET, TunnelGround } from "../support/tunnel_ground.ts";

const NEEDS = [needsTun(), needsTool("ping"), needsTool("nft")];
const MIB = 1 << 20;

testNeeding(
  NEEDS,
  "wrong capsules end the tunnel they come on and no other, and never its connection",
  async () => {
    await using ground = await TunnelGround.create();
    const relay = await ground.startRelay();
    await using rogue = await Rogue.start(ground, "agent1");
    const other = await rogue.open("other");
    const range = (first: number, last: number, protocol = 0) =>
      Uint8Array.of(4, 10, 0, 0, first, 10, 0, 0, last, protocol);
    const wrong: Record<string, Uint8Array> = {
      "overlapping routes": encodeCapsule(CAPSULE.routes, concat([range(0, 9), range(9, 20)])),
      "routes out of order": encodeCapsule(CAPSULE.routes, concat([range(9, 10), range(0, 5)])),
      "protocols out of order": encodeCapsule(CAPSULE.routes, concat([range(0, 9, 6), range(20, 30, 1)])),
      "a route that ends before it begins": encodeCapsule(CAPSULE.routes, range(9, 0)),
      "a truncated route": encodeCapsule(CAPSULE.routes, range(0, 9).subarray(0, 7)),
      "a truncated address": encodeCapsule(CAPSULE.assign, Uint8Array.of(0, 4, 10, 0, 0)),
      "an address of version 5": encodeCapsule(CAPSULE.assign, Uint8Array.of(0, 5, 10, 0, 0, 1, 32)),
      "a prefix of 33 bits": encodeCapsule(CAPSULE.assign, Uint8Array.of(0, 4, 10, 0, 0, 1, 33)),
      "an empty request": encodeCapsule(CAPSULE.request, new Uint8Array()),
      "a request with id 0": encodeCapsule(CAPSULE.request, Uint8Array.of(0, 4, 0, 0, 0, 0, 32)),
      "a datagram without its context": encodeCapsule(0, Uint8Array.of(0x40)),
      "64 MiB of routes announced": Uint8Array.of(CAPSULE.routes, 0x84, 0, 0, 0, 1),
      "2^62 bytes of addresses announced": Uint8Array.of(CAPSULE.assign, ...new Array(8).fill(255)),
    };
    for (const [what, bytes] of Object.entries(wrong)) {
      const tunnel = await rogue.open("mallory");
      await tunnel.write(bytes);
      const end = await tunnel.untilEnded();
      assert.ok(!end.startsWith("connection closed"), `${what}: ${end}`);
      assert.equal(await pingThrough(other, INTERNET.web), true, what);
      await tunnel.close();
    }

    // A type that we do not know is skipped, however long; packets cross meanwhile.
    const patient = await rogue.open("patient");
    await patient.write(Uint8Array.of(0x29, 0x84, 0, 0, 0, ...utf8("the first few of 64 MiB")));
    assert.equal(await pingThrough(patient, INTERNET.web), true);
    await patient.write(new Uint8Array(MIB), 63);
    assert.equal(await pingThrough(patient, INTERNET.web), true);
    assert.ok(relay.running);
  },
);

testNeeding(
  NEEDS,
  "requests for addresses are answered one by one; floods of them end only their own tunnel",
  async () => {
    await using ground = await TunnelGround.create();
    const relay = await ground.startRelay({}, { log: { level: "info" } });
    await ground.startAgent("agent2");
    await using bystander = await Bystander.start(ground, { from: "agent2", to: INTERNET.web });
    await using rogue = await Rogue.start(ground, "agent1");
    const before = relay.usage().rssBytes;
    const wish = (id: number) => Uint8Array.of(id, 4, 0, 0, 0, 0, 32);

    const polite = await rogue.open("polite");
    const answers = () => polite.capsules.filter(({ type }) => type === CAPSULE.assign);
    for (let id = 1; id < 60; id++) {
      await polite.capsule(CAPSULE.request, wish(id));
      await eventually(async () => (await polite.look(), answers().length > id));
      const ids = decodeAddressAssign(answers().at(-1)!.value).map(({ requestId }) => requestId);
      assert.ok(ids.includes(id), `${ids}`);
    }

    // Answers beyond what buffers between us hold, to one that reads none of them.
    const deaf = await rogue.open("deaf", { reads: false });
    const many = concat(Array.from({ length: 60 }, (_, index) => wish(index + 1)));
    const written = await deaf.write(encodeCapsule(CAPSULE.request, many), 20_000);
    assert.ok(written < 20_000);
    await relay.waitForLine(/"tunnel_closed".*agent\/deaf/);
    await bystander.answered(3);

    const hasty = await rogue.open("hasty");
    await hasty.write(concat(Array.from({ length: 5_000 }, () => encodeCapsule(CAPSULE.request, wish(1)))));
    await bystander.answered(3);
    assert.equal(await pingThrough(polite, INTERNET.web), true);
    assert.ok(relay.usage().rssBytes - before < 150 * MIB, "memory stays bounded");
  },
);
