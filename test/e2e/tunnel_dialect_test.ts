/**
 * The wire of an IP tunnel as the agent meets it: the older dialect where both ends ask for it and nowhere else, peers
 * that break the protocol, and relays that refuse.
 */

import assert from "node:assert/strict";
import { relayServerName } from "../../src/identity/spiffe_id.ts";
import { PROGRAM, RELAY_NAME } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import type { ManagedProcess } from "../support/processes.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import { tunnelRoutes } from "../support/tunnel_host.ts";
import { download, ping } from "../support/tunnel_traffic.ts";

const NEEDS = [needsTun(), needsTool("gcc"), needsTool("ping"), needsTool("curl"), needsTool("nft")];
const IP_PATH = "/.well-known/masque/ip/*/*/";
const OLD_REQUEST = { method: "CONNECT", authority: "relay-1:4433", headers: [["protocol", "connect-ip"]] };
const NEW_REQUEST = { method: "CONNECT", protocol: "connect-ip", scheme: "https", path: IP_PATH };
const from = "agent1";

testNeeding(NEEDS, "the older dialect is refused unless the relay's config names it", async () => {
  await using ground = await TunnelGround.create();
  await ground.startRelay();
  const { head } = await ask(ground, OLD_REQUEST);
  assert.equal(head.status, 501);
  const agent = await ground.startAgent(from, { tunnel: { dialect: "zgate" }, untilUp: false });
  const refused = await refusal(agent);
  assert.deepEqual([refused.level, refused.status], ["warn", 501]);
  assert.match(refused.reason, /^relay-1; error=http_request_error; details="no IP tunnels here"/);
  assert.deepEqual(await ground.tunnelAddresses(from), []);
});

testNeeding(NEEDS, "where it is named, the older dialect has tunnels beside the standard", async (t) => {
  await using ground = await TunnelGround.create();
  const relay = await ground.startRelay({ dialects: ["zgate"] });

  await t.step("ADDRESS_ASSIGN comes first, with its count", async () => {
    const { process, head } = await ask(ground, OLD_REQUEST, { identity: "old" });
    assert.equal(head.status, 200);
    const [, body = ""] = await process.waitForLine(/^body ([0-9a-f]+)/);
    // Type 1, 27 bytes: a count, and two addresses, each with request ID, version, address and prefix length.
    assert.match(body, /^011b0200040a640002200006fd[0-9a-f]{30}80/);
    const standard = await ask(ground, NEW_REQUEST, { identity: "new" });
    const [, other = ""] = await standard.process.waitForLine(/^body ([0-9a-f]+)/);
    assert.match(other, /^011a00040a640003200006fd[0-9a-f]{30}80/);
  });

  await t.step("an agent of the dialect and one of the standard have traffic", async () => {
    const routes = [`${INTERNET.web}/32`, `${INTERNET.web6}/128`];
    const old = await ground.startAgent(from, { tunnel: { dialect: "zgate", routes } });
    await ground.startAgent("agent2");
    assert.deepEqual(await tunnelRoutes(ground, from), [INTERNET.web, INTERNET.web6]);
    for (const name of [from, "agent2"] as const) {
      for (const web of [INTERNET.web, INTERNET.web6]) {
        const { received, text } = await ping(ground, { from: name, to: web });
        assert.equal(received, 4, text);
        assert.match(text, / ttl=63 /);
        assert.ok((await download(ground, { from: name, web, bytes: 1 << 20 })).intact);
      }
    }
    assert.equal((await old.stop()).code, 0);
  });

  await t.step("what is no CONNECT is told so", async () => {
    for (const method of ["GET", "POST", "DELETE"]) {
      const { head } = await ask(ground, { method, scheme: "https", path: IP_PATH });
      assert.deepEqual([head.status, head.headers.allow], [405, "CONNECT"], method);
    }
  });

  await t.step("a capsule that cannot be read ends the tunnel, and nothing else", async () => {
    // ADDRESS_ASSIGN that announces two addresses and has none; ADDRESS_REQUEST that asks for nothing.
    for (const [request, hex] of [[OLD_REQUEST, "010102"], [NEW_REQUEST, "0200"]] as const) {
      const { process, head } = await ask(ground, request, { hex });
      assert.equal(head.status, 200);
      await process.waitForLine(/^ended$/);
    }
    await eventually(() => relay.lines.filter((line) => /"warn".*"tunnel_broken"/.test(line)).length === 2);
    const { received, text } = await ping(ground, { from: "agent2", to: INTERNET.web });
    assert.equal(received, 4, text);
  });
});

/** What a proxy may say against the protocol, and how the agent puts it. */
const BREACHES = {
  "another capsule first, in the older dialect": {
    dialect: "zgate",
    // An IP packet, before an assignment that would do.
    hex: "40400145" + "010801" + "00040a63000220",
    detail: /First capsule is no ADDRESS_ASSIGN but of type 64/,
  },
  "an ADDRESS_ASSIGN without its count, in the older dialect": {
    dialect: "zgate",
    hex: "0107" + "00040a63000220",
    detail: /an address of IP version 10/,
  },
  "an ADDRESS_ASSIGN cut short": {
    dialect: "rfc9484",
    hex: "0103" + "00040a",
    detail: /ends inside an address/,
  },
  "routes out of order": {
    dialect: "rfc9484",
    hex: "0314" + "04" + "0a000000" + "0affffff" + "00" + "04" + "09000000" + "09ffffff" + "00",
    detail: /routes out of order/,
  },
};

testNeeding(NEEDS, "a proxy that breaks the protocol loses the tunnel, and the log says why", async (t) => {
  await using ground = await TunnelGround.create();
  const { deployment } = ground;
  const certificate = await deployment.issue("relay", RELAY_NAME);
  for (const [index, [name, { dialect, hex, detail }]] of Object.entries(BREACHES).entries()) {
    await t.step(name, async () => {
      const port = `${5_000 + index}`;
      await using proxy = ground.spawn("relay", script("tunnel_rogue_proxy.ts", [port, certificate, hex]));
      await proxy.waitForLine(/^ready$/);
      await using agent = await ground.startAgent(from, {
        tunnel: {
          dialect,
          proxy: {
            address: `${ground.host("relay").address}:${port}`,
            serverName: relayServerName(RELAY_NAME),
            roots: `${deployment.folder}/ca/ca.crt`,
          },
        },
        config: { relays: [] },
        untilUp: false,
      });
      const [line] = await agent.waitForLine(/^.*"tunnel_broken".*$/);
      assert.equal(JSON.parse(line).level, "warn");
      assert.match(JSON.parse(line).detail, detail);
      await proxy.waitForLine(/^ended$/);
      assert.deepEqual(await tunnelRoutes(ground, from), []);
      assert.equal((await agent.stop()).code, 0);
      assert.ok(!agent.lines.some((text) => text.includes('"tunnel_up"')), "it carried nothing");
    });
  }
});

testNeeding(NEEDS, "a refused agent says why, asks ever more seldom, and is let in later", async (t) => {
  const rules = [{ id: "web", type: "ip_cidr", action: "allow", destinations: [INTERNET.web] }];
  const egress = (...names: readonly string[]) => ({
    version: "1.0",
    default_action: "deny",
    clients: Object.fromEntries(names.map((name) => [name, { rules }])),
  });
  await using ground = await TunnelGround.create({ egress: egress("agent/agent-2") });
  // One address: a network of four has the network itself, the relay, a client and the broadcast.
  await ground.startRelay({ ipv4: "10.100.0.0/30", ipv6: null });
  const other = await ground.startAgent("agent2");
  let agent = await ground.startAgent(from, { untilUp: false });

  await t.step("403 while no rule names it", async () => {
    const refused = await refusal(agent);
    assert.deepEqual([refused.level, refused.status], ["warn", 403]);
    assert.match(refused.reason, /details="no policy allows this"/);
    const times = await eventually(() => {
      const seen = refusals(agent);
      return seen.length >= 4 && seen.map(({ time }) => Date.parse(time));
    }, { timeout: 30_000, interval: 100 });
    const gaps = times.slice(1).map((time, index) => time - times[index]!);
    // The back-off's lower edges: half of 1, 2 and 4 seconds, at the least.
    for (const [index, least] of [500, 1_000, 2_000].entries()) {
      assert.ok(gaps[index]! >= least, `refused every ${gaps.join(", ")} ms`);
    }
  });

  await t.step("503 while there is no address left", async () => {
    assert.equal((await agent.stop()).code, 0);
    await ground.writeEgress(egress("agent/agent-1", "agent/agent-2"));
    agent = await ground.startAgent(from, { untilUp: false });
    // The policy may be read a moment later.
    await agent.waitForLine(/"tunnel_refused".*503/);
    const { level, reason } = refusals(agent).at(-1)!;
    assert.equal(level, "warn");
    assert.match(reason, /details="address pool exhausted"/);
  });

  await t.step("and it is let in when there is one", async () => {
    assert.equal((await other.stop()).code, 0);
    await ground.run("relay", [
      ...[...PROGRAM, "leases", "release", "agent/agent-2"],
      ...["--config", `${ground.deployment.folder}/${RELAY_NAME}.config.json`],
    ]);
    await agent.waitForLine(/"tunnel_up"/, { timeoutMs: 40_000 });
    const { received, text } = await ping(ground, { from, to: INTERNET.web });
    assert.equal(received, 4, text);
  });
});

interface RefusalLine {
  readonly time: string;
  readonly level: string;
  readonly status: number;
  readonly reason: string;
}

function refusals(agent: ManagedProcess): RefusalLine[] {
  return agent.lines.filter((line) => line.includes('"tunnel_refused"')).map((line) => JSON.parse(line));
}

async function refusal(agent: ManagedProcess): Promise<RefusalLine> {
  await agent.waitForLine(/"tunnel_refused"/);
  return refusals(agent)[0]!;
}

/** Makes one request to the relay as an admitted agent; the process shows what comes on it. */
async function ask(
  ground: TunnelGround,
  request: unknown,
  { identity = "caller", hex = "" }: { readonly identity?: string; readonly hex?: string } = {},
) {
  const file = await ground.deployment.issue("agent", identity);
  const place = [RELAY_NAME, ground.relayAddress, file];
  const process = ground.spawn(
    "agent2",
    script("tunnel_request.ts", [...place, JSON.stringify(request), hex]),
  );
  const [line] = await process.waitForLine(/^\{.*\}$/, { timeoutMs: 30_000 });
  const head: { status: number; headers: Record<string, string> } = JSON.parse(line);
  return { process, head };
}

function script(name: string, args: readonly string[]): string[] {
  const path = new URL(`../support/${name}`, import.meta.url).pathname;
  return [Deno.execPath(), "run", "--quiet", "--no-check", "--allow-all", "--unstable-net", path, ...args];
}
