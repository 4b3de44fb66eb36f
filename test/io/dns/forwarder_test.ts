import assert from "node:assert/strict";
import { parseIp } from "../../../src/base/ip.ts";
import { createLogger } from "../../../src/base/log.ts";
import type { DnsServer } from "../../../src/io/dns/ask_server.ts";
import { DnsForwarder } from "../../../src/io/dns/forwarder.ts";
import { readDnsQuery } from "../../../src/wire/dns/query.ts";
import { eventually } from "../../support/eventually.ts";
import { freePort } from "../../support/free_port.ts";
import { opt, query, readQuery } from "../../wire/dns/support.ts";
import { type NameServer, respond, startNameServer } from "./name_server.ts";

const UDP = { viaTcp: false };
const ASKED = query("www.example.com", { id: 0x4321 });

Deno.test("an answer comes back under the asker's id; each query has a random id and port of its own", async () => {
  await using near = startNameServer((bytes) => [respond(bytes)]);
  using ground = setUp([near]);
  for (let i = 0; i < 12; i++) {
    assert.deepEqual(await ground.forwarder.forward(readQuery(ASKED), UDP), respond(ASKED));
  }
  assert.ok(new Set(near.ids).size > 10, "ids");
  assert.ok(new Set(near.ports).size > 6, "ports");
  assert.equal(ground.forwarder.inFlight, 0);
});

Deno.test("[RFC5452-9.1] forged answers are not heard: another port, id, question, or a query sent back", async () => {
  const forger = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  using _closing = { [Symbol.dispose]: () => forger.close() };
  await using near = startNameServer(async (bytes, { port }) => {
    await forger.send(respond(bytes, 0x8183), { transport: "udp", hostname: "127.0.0.1", port });
    const wrongId = respond(bytes, 0x8183);
    wrongId[1]! ^= 1;
    const wrongName = respond(bytes, 0x8183);
    wrongName[13] = 0x78;
    return [wrongId, wrongName, bytes, bytes.slice(0, 5), new Uint8Array(), respond(bytes)];
  });
  using ground = setUp([near]);
  assert.deepEqual(await ground.forwarder.forward(readQuery(ASKED), UDP), respond(ASKED));
});

Deno.test("the next server is asked when one is silent, gone or does not know, and first from then on", async () => {
  const failures: Record<string, () => readonly Uint8Array[]> = {
    silent: () => [],
    SERVFAIL: () => [respond(ASKED, 0x8182)],
    REFUSED: () => [respond(ASKED, 0x8185)],
  };
  for (const [what, answer] of Object.entries(failures)) {
    await using bad = startNameServer((bytes) =>
      isProbe(bytes) ? [respond(bytes)] : answer().map((text) => {
        text.set(bytes.subarray(0, 2));
        return text;
      })
    );
    await using good = startNameServer((bytes) => [respond(bytes)]);
    using ground = setUp([bad, good]);
    assert.deepEqual(await ground.forwarder.forward(readQuery(ASKED), UDP), respond(ASKED), what);
    const before = bad.ports.length;
    await ground.forwarder.forward(readQuery(ASKED), UDP);
    assert.equal(bad.ports.length, before, what);
  }
});

Deno.test("where no server knows, the first refusal is the answer", async () => {
  await using near = startNameServer((bytes) => [respond(bytes, 0x8185)]);
  using ground = setUp([near, near]);
  assert.deepEqual(await ground.forwarder.forward(readQuery(ASKED), UDP), respond(ASKED, 0x8185));
});

Deno.test("NXDOMAIN is an answer", async () => {
  await using near = startNameServer((bytes) => [respond(bytes, 0x8183)]);
  await using other = startNameServer((bytes) => [respond(bytes)]);
  using ground = setUp([near, other]);
  assert.deepEqual(await ground.forwarder.forward(readQuery(ASKED), UDP), respond(ASKED, 0x8183));
});

Deno.test("who asks by TCP gets what UDP has no room for; who asks by UDP is told to come by TCP", async () => {
  const long = new Uint8Array(9_000).fill(7);
  await using near = startNameServer((bytes, { viaTcp }) =>
    viaTcp ? [respond(bytes, 0x8180, long)] : [respond(bytes, 0x8380)]
  );
  using ground = setUp([near]);
  assert.deepEqual(await ground.forwarder.forward(readQuery(ASKED), UDP), respond(ASKED, 0x8380));
  assert.equal(near.byTcp, 0);
  assert.deepEqual(
    await ground.forwarder.forward(readQuery(ASKED), { viaTcp: true }),
    respond(ASKED, 0x8180, long),
  );
  assert.equal(near.byTcp, 1);
});

Deno.test("an asker's room is cut to what goes back through us", async () => {
  const sizes: (number | undefined)[] = [];
  await using near = startNameServer((bytes) => {
    if (!isProbe(bytes)) sizes.push(readDnsQuery(bytes)?.edns?.size);
    return [respond(bytes)];
  });
  using ground = setUp([near]);
  for (const size of [512, 1_232, 4_096, 65_535]) {
    await ground.forwarder.forward(readQuery(query("a.example", { tail: opt({ size }) })), UDP);
  }
  assert.deepEqual(sizes, [512, 1_232, 1_232, 1_232]);
});

Deno.test("a stub that asks us again is left out, and told of; the others are not", async () => {
  const forwarders: DnsForwarder[] = [];
  // It passes on whatever it is asked, as a stub does, and answers nothing before it has an answer.
  await using stub = startNameServer(async (bytes) => {
    const asked = readQuery(bytes);
    if (forwarders[0]!.noticeProbe(asked.name)) return [respond(bytes, 0x8183)];
    const answer = await forwarders[0]!.forward(asked, UDP);
    return answer === undefined ? [] : [answer];
  });
  await using good = startNameServer((bytes) => [respond(bytes)]);
  using ground = setUp([stub, good]);
  forwarders.push(ground.forwarder);
  assert.deepEqual(await ground.forwarder.forward(readQuery(ASKED), UDP), respond(ASKED));
  assert.equal(stub.ports.length, 1, "the probe alone");
  await ground.forwarder.forward(readQuery(ASKED), UDP);
  assert.equal(stub.ports.length, 1);
  assert.deepEqual(ground.events, ["dns_server_loops"]);
  ground.advance(61_000);
  await ground.forwarder.forward(readQuery(ASKED), UDP);
  assert.equal(stub.ports.length, 2, "asked again after a while");
});

Deno.test("our own address is never asked, and without any server there is no answer", async () => {
  await using near = startNameServer((bytes) => [respond(bytes)], "127.0.0.9");
  using ground = setUp([near], { own: "127.0.0.9" });
  assert.equal(await ground.forwarder.forward(readQuery(ASKED), UDP), undefined);
  assert.equal(near.ports.length, 0);
});

Deno.test("a query ends after its time; at most 1,024 are on their way; closing ends all", async () => {
  await using near = startNameServer((bytes) => isProbe(bytes) ? [respond(bytes)] : []);
  {
    using short = setUp([near], { deadline: 300 });
    assert.equal(await short.forwarder.forward(readQuery(ASKED), UDP), undefined);
  }
  const ground = setUp([near]);
  const waiting = Array.from({ length: 1_024 }, () => ground.forwarder.forward(readQuery(ASKED), UDP));
  assert.equal(ground.forwarder.inFlight, 1_024);
  assert.equal(await ground.forwarder.forward(readQuery(ASKED), UDP), undefined);
  await eventually(() => near.ports.length > 100);
  ground[Symbol.dispose]();
  assert.deepEqual(new Set(await Promise.all(waiting)), new Set([undefined]));
  assert.equal(await ground.forwarder.forward(readQuery(ASKED), UDP), undefined);
});

Deno.test("a server that nobody runs does not hold the next one up for the whole time", async () => {
  const port = freePort();
  await using good = startNameServer((bytes) => [respond(bytes)]);
  using ground = setUp([{ server: { address: parseIp("127.0.0.1")!, port } }, good]);
  assert.deepEqual(await ground.forwarder.forward(readQuery(ASKED), { viaTcp: true }), respond(ASKED));
});

function setUp(
  servers: readonly { readonly server: NameServer["server"] }[],
  { own = "10.101.0.1", ...options }: { readonly own?: string; readonly deadline?: number } = {},
) {
  const events: string[] = [];
  let skipped = 0;
  const list: readonly DnsServer[] = servers.map(({ server }) => server);
  const forwarder = new DnsForwarder({
    servers: () => Promise.resolve(list),
    own: () => [parseIp(own)!],
    zone: () => "ginnel.internal",
    logger: createLogger({ level: "warn", write: (line) => events.push(JSON.parse(line).event) }),
    now: () => Date.now() + skipped,
    ...options,
  });
  return {
    ...{ forwarder, events },
    advance: (ms: number) => void (skipped += ms),
    [Symbol.dispose]: () => forwarder[Symbol.dispose](),
  };
}

function isProbe(bytes: Uint8Array): boolean {
  return readDnsQuery(bytes)?.name.includes("ginnel-loop") ?? false;
}
