/** What a tunnel needs of the machine: without it one clear message, with just that an ordinary user has tunnels. */

import assert from "node:assert/strict";
import { RELAY_NAME } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { NOBODY, OrdinaryUser } from "../support/ordinary_user.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { type GroundHost, INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import { networkPicture } from "../support/tunnel_host.ts";
import { download, ping, seenAs } from "../support/tunnel_traffic.ts";

const SYSTEM = { install: "part of every Linux system" };
const NEEDS = [needsTun(), needsTool("gcc"), needsTool("ping"), needsTool("curl"), needsTool("nft")];
const TRICKS = [needsTool("setpriv", SYSTEM), needsTool("unshare", SYSTEM), needsTool("mount", SYSTEM)];
const NET_ADMIN = 1n << 12n;
const GRANTS = [
  "setcap cap_net_admin+ep FILE",
  "AmbientCapabilities=CAP_NET_ADMIN",
  "docker run --cap-add NET_ADMIN --device /dev/net/tun",
];

const POOR = {
  "without CAP_NET_ADMIN": {
    prefix: ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"],
    message:
      /^ginnel run: Interface ginnel0 cannot be opened without the capability CAP_NET_ADMIN\. Grant just that one: /,
    hints: GRANTS,
  },
  "without /dev/net/tun": {
    prefix: ["unshare", "-m", "sh", "-ec", 'mount -t tmpfs none /dev/net; exec "$@"', "sh"],
    message: /^ginnel run: This machine offers no \/dev\/net\/tun \(ENOENT\)\. /,
    hints: ["modprobe tun", "docker run --device /dev/net/tun --cap-add NET_ADMIN"],
  },
};

for (const [name, { prefix, message, hints }] of Object.entries(POOR)) {
  testNeeding(
    [...NEEDS, ...TRICKS],
    `${name} relay and agent end with one message that says so`,
    async () => {
      await using ground = await TunnelGround.create();
      const { deployment } = ground;
      const configs = {
        relay: {
          mode: "relay",
          identity: await deployment.issue("relay", RELAY_NAME),
          policy: ["policy.json"],
          authority: { key: "ca/authority.key" },
          health: null,
          tunnel: { policy: ["egress.json"] },
        },
        agent1: {
          mode: "agent",
          identity: await deployment.issue("agent", "agent-1"),
          relays: [{ name: RELAY_NAME, address: ground.relayAddress }],
          tunnel: {},
        },
      };
      for (const host of ["relay", "agent1"] as const) {
        const before = await networkPicture(ground, host);
        const node = await deployment.start(host, configs[host], {
          wrap: (command) => ground.host(host).command([...prefix, ...command]),
        });
        assert.equal((await node.ended).code, 1);
        // One line, with the remedy: no trace, no second error.
        const [error = "", ...more] = node.lines.filter((line) => !line.startsWith("{"));
        assert.match(error, message);
        for (const hint of hints) assert.ok(error.includes(hint), `${host}: ${error}`);
        assert.deepEqual(more, []);
        const faults = node.lines.filter((line) => /"level":"(warn|error)"/.test(line));
        // A node without a tunnel would say this one too.
        assert.deepEqual(faults.filter((line) => !line.includes('"socket_buffers_small"')), []);
        assert.equal(await networkPicture(ground, host), before);
      }
    },
  );
}

testNeeding(
  [...NEEDS, ...TRICKS],
  "with just CAP_NET_ADMIN an ordinary user has a tunnel, and serves them",
  async (t) => {
    await using user = await OrdinaryUser.create();
    await using ground = await TunnelGround.create({ program: user.program });
    await ground.deployment.issue("relay", RELAY_NAME);
    await ground.deployment.issue("agent", "agent-1");
    await user.takeOver(ground);
    const prefix = user.withRights("--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin");
    const before = await networkPicture(ground, "agent1");
    const relay = await ground.startRelay({}, {}, { prefix });
    const agent = await ground.startAgent("agent1", { tunnel: { routes: "full", killSwitch: true }, prefix });

    await t.step("they have no other right", async () => {
      for (const { pid } of [relay, agent]) {
        const status = await Deno.readTextFile(`/proc/${pid}/status`);
        assert.match(status, new RegExp(`^Uid:(\\s+${NOBODY}){4}$`, "m"));
        for (const set of ["CapEff", "CapPrm", "CapAmb"]) {
          assert.equal(capabilities(status, set), NET_ADMIN, set);
        }
      }
    });

    await t.step("it carries what a tunnel carries", async () => {
      for (const to of [INTERNET.web, INTERNET.web6]) {
        const { received, text } = await ping(ground, { from: "agent1", to, count: 2 });
        assert.equal(received, 2, text);
      }
      assert.deepEqual(await seenAs(ground, { from: "agent1", web: INTERNET.web }), {
        address: INTERNET.relaySeenAs,
      });
      const { intact, text } = await download(ground, { from: "agent1", web: INTERNET.web6, bytes: 1 << 20 });
      assert.ok(intact, text);
    });

    await t.step("both leave nothing behind", async () => {
      assert.equal((await agent.stop()).code, 0);
      assert.equal(await networkPicture(ground, "agent1"), before);
      assert.equal((await relay.stop()).code, 0);
      assert.equal(await ground.run("relay", ["nft", "list", "ruleset"]), "");
    });
  },
);

testNeeding([...NEEDS, ...TRICKS], "what needs no tunnel needs no right", async () => {
  await using user = await OrdinaryUser.create();
  await using ground = await TunnelGround.create({ program: user.program, services: [{ name: "web" }] });
  const { deployment } = ground;
  const relays = [{ name: RELAY_NAME, address: ground.relayAddress }];
  const configs = {
    connector: {
      mode: "connector",
      identity: await deployment.issue("connector", "web"),
      relays,
      services: [{ name: "web", upstream: `tcp://${INTERNET.web}:80` }],
    },
    agent: {
      mode: "agent",
      identity: await deployment.issue("agent", "agent-1"),
      relays,
      forwards: [{ listen: "127.0.0.1:8080", service: "web" }],
    },
  };
  await deployment.issue("relay", RELAY_NAME);
  await user.takeOver(ground);
  const noDevice = ["unshare", "-m", "sh", "-ec", 'mount -t tmpfs none /dev/net; exec "$@"', "sh"];
  const prefix = [
    ...noDevice,
    ...user.withRights("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"),
  ];
  const wrapOn = (host: GroundHost) => ({
    wrap: (command: readonly string[]) => ground.host(host).command([...prefix, ...command]),
  });
  await deployment.startRelay({}, wrapOn("relay"));
  const connector = await deployment.start("web", configs.connector, wrapOn("relay"));
  const agent = await deployment.start("agent", configs.agent, wrapOn("agent1"));
  await agent.waitForLine(/"relay_connected"/);
  await connector.waitForLine(/"relay_connected"/);
  const address = await eventually(() => ground.run("agent1", ["curl", "-sSf", "http://127.0.0.1:8080/ip"]));
  assert.equal(address, INTERNET.relaySeenAs);
  assert.equal(capabilities(await Deno.readTextFile(`/proc/${agent.pid}/status`), "CapEff"), 0n);
  assert.equal((await agent.stop()).code, 0);
});

function capabilities(status: string, set: string): bigint {
  return BigInt(`0x${new RegExp(`^${set}:\\s+(\\S+)$`, "m").exec(status)?.[1]}`);
}
