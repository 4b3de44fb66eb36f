/**
 * Services where something is in the way: rights that the agent does not have, and addresses that others have. It says
 * what, does what it can, and does the rest once the way is free.
 */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import { NOBODY, OrdinaryUser } from "../support/ordinary_user.ts";
import { runCommand } from "../support/processes.ts";
import { needsRoot, needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { dig, doctor, statusOf } from "../support/service_commands.ts";
import { ServiceGround } from "../support/service_ground.ts";
import { UPSTREAM_PORTS } from "../support/service_upstreams.ts";

const SYSTEM = { install: "part of every Linux system" };
const NEEDS = [
  ...[needsRoot(), needsTun(), needsTool("curl"), needsTool("dig")],
  ...[needsTool("setpriv", SYSTEM), needsTool("mount", SYSTEM)],
];
const host = "agent1";
const POOL = "10.101.0.0/16";

testNeeding(
  NEEDS,
  "without rights, or where others have the addresses, services are where they can be",
  async (t) => {
    await using user = await OrdinaryUser.create();
    await using ground = await ServiceGround.create({ program: user.program });
    const port = UPSTREAM_PORTS.web;
    const intercept = {
      addresses: ["web.ginnel.internal"],
      portRanges: [{ low: port, high: port }],
      protocols: ["tcp"],
    };
    const id = await ground.service({ name: "web", intercept });
    const { json } = await ground.api("GET", `/services/${id}`);
    const { ipv4, ipv6 } = (json as { virtualAddresses: Record<"ipv4" | "ipv6", string> }).virtualAddresses;
    await ground.allow("Dial");
    await ground.allow("Bind");
    for (const kind of ["agent", "connector"] as const) await ground.identity(kind, `${kind}-1`);
    await takeOver(ground.folder);
    const path = new URL("../support/service_upstreams.ts", import.meta.url).pathname;
    const upstreams = ground.spawn("conn1", [
      Deno.execPath(),
      "run",
      "-A",
      "--unstable-net",
      "--no-check",
      path,
    ]);
    await upstreams.waitForLine(/^ready$/);
    await ground.startConnector("conn1", {
      services: [{ name: "web", upstream: `tcp://127.0.0.1:${port}` }],
    });

    const none = user.withRights("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs");
    const netAdmin = user.withRights("--inh-caps=-all,+net_admin", "--ambient-caps=-all,+net_admin");
    const start = (prefix: readonly string[], services?: object) =>
      ground.startAgent(host, services === undefined ? {} : { services }, { prefix });
    const parts = async () => (await statusOf(ground, host)).parts;
    const untilPart = (name: "capture" | "dns" | "autoForward", state: "on" | "off" | "failed") =>
      eventually(async () => {
        const part = (await parts())[name]!;
        assert.equal(part.state, state, JSON.stringify(part));
        return { detail: "", hint: "", ...part };
      }, { timeout: 20_000, interval: 100 });
    const fetchAt = async (address: string) => {
      const place = address.includes(":") ? `[${address}]` : address;
      const command = ["curl", "-sSf", "--max-time", "5", `http://${place}:${port}/get`];
      const text = await eventually(() => ground.run(host, command), { interval: 100 });
      assert.equal(JSON.parse(text).path, "/get");
    };
    const local = () =>
      eventually(async () => {
        const { services: [web] } = await statusOf(ground, host);
        return web?.addresses.local;
      });

    await t.step("an ordinary user has them on loopback addresses, and is told why", async () => {
      const agent = await start(none);
      const { detail, hint } = await untilPart("capture", "off");
      assert.match(
        detail,
        /^Interface ginnel1 cannot be opened without the capability CAP_NET_ADMIN$/,
      );
      assert.match(hint, /^Grant just that one: /);
      assert.deepEqual([(await parts()).dns!.state, (await parts()).autoForward!.state], ["off", "on"]);
      assert.match(await local(), /^127\.101\./);
      await fetchAt(await local());
      const { code, findings } = await doctor(ground, {
        host,
        prefix: ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"],
      });
      const capture = findings.find(({ subject }) => subject === "capture")!;
      assert.deepEqual([code, capture.verdict], [0, "warn"]);
      assert.match(capture.text, /CAP_NET_ADMIN.*; services are at addresses in 127\.0\.0\.0\/8 instead$/);
      assert.equal((await agent.stop()).code, 0);
    });

    await t.step("who insists on capture gets one clear message", async () => {
      const identity = (await ground.identity("agent", "agent-1")).path;
      const agent = await ground.start(host, "agent-1", {
        mode: "agent",
        identity,
        services: { capture: true },
      }, none);
      assert.equal((await agent.ended).code, 1);
      const errors = agent.lines.filter((line) => !line.startsWith("{"));
      assert.equal(errors.length, 1, errors.join("\n"));
      assert.match(
        errors[0]!,
        /^ginnel run: Interface ginnel1 cannot be opened without the capability CAP_NET_ADMIN/,
      );
    });

    await t.step("with just CAP_NET_ADMIN they are captured, and what names lack is told", async () => {
      const agent = await start(netAdmin);
      await untilPart("capture", "on");
      for (const address of [ipv4, ipv6]) await fetchAt(address);
      const { detail, hint } = await untilPart("dns", "failed");
      assert.match(detail, /cannot write \/etc\/resolv\.conf/);
      assert.match(hint, /leave services\.dns out/);
      const { answers } = await dig(ground, { host, name: "web.ginnel.internal", options: ["@10.101.0.1"] });
      assert.deepEqual(answers, [ipv4]);
      assert.equal((await parts()).autoForward!.state, "off");
      assert.equal((await agent.stop()).code, 0);
    });

    const bridge = (...commands: readonly string[]) => ground.hosts.configure(host, commands);
    const addBridge = (address: string) =>
      bridge("link add docker9 type bridge", `addr add ${address} dev docker9 nodad`, "link set docker9 up");
    let free = "";

    await t.step(
      "where another interface has the addresses, status names it, and a range that is free",
      async () => {
        await addBridge("10.101.5.1/24");
        const agent = await start(netAdmin, { dns: "serve" });
        const { detail, hint } = await untilPart("capture", "failed");
        assert.match(
          detail,
          /^The services' virtual addresses 10\.101\.0\.0\/16 are in use: interface docker9 has the (route|address) 10\.101\.5\./,
        );
        [, free = ""] = /^Set "services": \{"ipv4": "(10\.\d+\.0\.0\/16)"\} in the agent's config/.exec(
          hint,
        )!;
        assert.ok(free !== "" && free !== POOL);
        // Until the way is free they are elsewhere.
        await untilPart("autoForward", "on");
        await fetchAt(await local());
        await bridge("link del docker9");
        assert.match((await untilPart("capture", "on")).detail, /^ginnel1: 10\.101\.0\.0\/16/);
        await untilPart("autoForward", "off");
        await fetchAt(ipv4);

        for (const address of ["10.101.200.1/30", ipv6.replace(/::?[0-9a-f]+$/, "::7/128")]) {
          await addBridge(address);
          const told = await untilPart("capture", "failed");
          assert.match(told.detail, /are in use: interface docker9 has/, "a conflict that comes later");
          await bridge("link del docker9");
          await untilPart("capture", "on");
        }
        assert.equal((await agent.stop()).code, 0);
      },
    );

    await t.step("that range, written into the config, is where services and their names are", async () => {
      await bridge("route add blackhole 10.101.0.0/17", "route add 10.101.128.0/17 dev eth0");
      const agent = await start(netAdmin, { dns: "serve", ipv4: free });
      await eventually(async () => (await parts()).capture!.detail!.startsWith(`ginnel1: ${free}, `));
      const start16 = free.replace("0.0/16", "");
      const options = [`@${start16}0.1`];
      const { answers: [address = ""] } = await eventually(
        () => dig(ground, { host, name: "web.ginnel.internal", options }),
        { interval: 100 },
      );
      assert.ok(address.startsWith(start16), address);
      assert.equal(address.slice(start16.length), ipv4.slice("10.101.".length));
      await fetchAt(address);
      const { services: [web] } = await statusOf(ground, host);
      assert.equal(web!.addresses.ipv4, address);
      assert.equal((await agent.stop()).code, 0);
    });
  },
);

/** Makes the user owner of what agents and connectors need. */
async function takeOver(folder: string): Promise<void> {
  await Deno.chmod(folder, 0o755);
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name);
  const theirs = names.filter((name) => /^(agent-|connector-|run-(agent|conn))/.test(name));
  const paths = [folder, ...theirs.map((name) => `${folder}/${name}`)];
  await runCommand(["chown", `${NOBODY}:${NOBODY}`, ...paths]);
}
