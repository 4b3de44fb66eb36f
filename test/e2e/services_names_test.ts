/**
 * The machine's resolver in a whole agent: services' names are the agent's own, others are asked as before, and whatever
 * becomes of the agent, the machine gets its resolver back.
 */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import { needsRoot, needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { makeStandIn, RESOLVER_TEXTS } from "../support/resolver_stand_ins.ts";
import { dig, doctor, statusOf, untilNamed } from "../support/service_commands.ts";
import { ServiceGround } from "../support/service_ground.ts";
import { SERVICES } from "../support/tunnel_hosts.ts";

const NEEDS = [needsRoot(), needsTun(), needsTool("dig"), needsTool("dnsmasq"), needsTool("nft")];
const RESOLVER = "10.101.0.1";
const OWN = `# mine\nsearch lan\noptions timeout:2\nnameserver ${SERVICES.dns}\n`;
/** Where the internet would lead whoever asks it. */
const FALSE = { addresses: ["192.0.2.66"], ttl: 60 };
const host = "agent1";

testNeeding(NEEDS, "the machine asks the agent for names, and gets its resolver back", async (t) => {
  await using ground = await ServiceGround.create();
  await ground.service({
    name: "web",
    intercept: {
      addresses: ["db.corp.example", "*.wild.example"],
      portRanges: [{ low: 80, high: 80 }],
      protocols: ["tcp"],
    },
  });
  await ground.allow("Dial");
  await ground.hosts.startInternet("conn2");
  await ground.run(host, ["ip", "route", "add", "default", "via", ground.hosts.host("conn2").address]);
  const taken = ["web.ginnel.internal", "none.ginnel.internal", "db.corp.example", "a.wild.example"];
  await ground.hosts.writeNames({
    "public.test": { addresses: ["198.51.100.10"], ttl: 60 },
    ...Object.fromEntries(taken.map((name) => [name, FALSE])),
  });
  const file = `/etc/netns/${ground.hosts.host(host).namespace}/resolv.conf`;
  const text = () => Deno.readTextFile(file);
  const ask = (name: string, ...options: string[]) => dig(ground, { host, name, options });
  const start = async (text: string, prefix: readonly string[] = []) => {
    await Deno.writeTextFile(file, text);
    const agent = await ground.startAgent(host, {}, { prefix });
    await untilNamed(ground, host);
    return agent;
  };
  const publicName = { code: "NOERROR", answers: ["198.51.100.10"] };
  let agent = await start(OWN);

  await t.step("services' names are answered here and asked of nobody, other names as before", async () => {
    assert.match(
      await text(),
      new RegExp(`^# .*\nsearch lan\noptions timeout:2\nnameserver ${RESOLVER}\nnameserver fd`),
    );
    await ground.run(host, [
      "nft",
      "table inet probe { counter asked { }; chain out { type filter hook output priority 0; " +
      `ip daddr ${SERVICES.dns} counter name asked; }; }`,
    ]);
    for (const name of taken) {
      const { code, answers } = await ask(name);
      const isKnown = name !== "none.ginnel.internal";
      assert.deepEqual([code, answers.length], isKnown ? ["NOERROR", 1] : ["NXDOMAIN", 0], name);
      if (isKnown) assert.match(answers[0]!, /^10\.101\./, name);
      await ask(name, "-t", "MX");
    }
    const asked = async () =>
      /packets (\d+)/.exec(await ground.run(host, ["nft", "list", "counter", "inet", "probe", "asked"]))![1];
    assert.equal(await asked(), "0");
    assert.deepEqual(await ask("public.test"), publicName);
    assert.notEqual(await asked(), "0");
  });

  await t.step("a stopped agent puts it back", async () => {
    assert.equal((await agent.stop()).code, 0);
    assert.equal(await text(), OWN);
  });

  await t.step(
    "a killed one leaves it; doctor says so, and an agent without services puts it back",
    async () => {
      agent = await start(OWN);
      await agent.stop({ signal: "SIGKILL" });
      assert.match(await text(), /nameserver 10\.101\.0\.1/);
      const { code, findings } = await doctor(ground, { host });
      assert.equal(code, 1);
      const failed = findings.filter(({ verdict }) => verdict === "fail");
      assert.deepEqual(failed.map(({ subject }) => subject), ["DNS"]);
      assert.match(failed[0]!.text, /as a killed agent left it, for ginnel1/);
      const other = await ground.startAgent(host, { socks5: "127.0.0.1:1080" });
      assert.equal(await text(), OWN);
      assert.equal((await other.stop()).code, 0);
      assert.equal(await text(), OWN);
    },
  );

  await t.step("an agent that no relay has told anything asks nobody for the network's names", async () => {
    const { path } = await ground.identity("agent", "agent-1");
    await Deno.writeTextFile(file, OWN);
    const lonely = await ground.start(host, "lonely", {
      mode: "agent",
      identity: path,
      relays: [{ name: "relay-9", address: "10.77.0.99:4433" }],
    });
    await lonely.waitForLine(/"capture_up"/);
    await eventually(async () => /nameserver 10\.101\.0\.1/.test(await text()));
    assert.deepEqual(await ask("web.ginnel.internal"), { code: "SERVFAIL", answers: [] });
    assert.deepEqual(await ask("public.test"), publicName);
    assert.equal((await lonely.stop()).code, 0);
    assert.equal(await text(), OWN);
  });

  await t.step("an uninstallation puts it back too", async () => {
    agent = await start(OWN);
    await agent.stop({ signal: "SIGKILL" });
    await uninstall(ground);
    assert.equal(await text(), OWN);
  });

  await t.step("systemd-resolved is told of the services' domains only", async () => {
    const { prefix, calls } = await makeStandIn("resolved", `${ground.folder}/resolved`);
    agent = await start(RESOLVER_TEXTS.resolved, prefix);
    assert.equal(await text(), RESOLVER_TEXTS.resolved);
    const [servers = "", domains = "", route] = await calls();
    assert.match(servers, new RegExp(`^dns ginnel1 ${RESOLVER} fd`));
    for (const domain of ["ginnel.internal", "db.corp.example", "wild.example", "101.10.in-addr.arpa"]) {
      assert.ok(domains.split(" ").includes(`~${domain}`), domains);
    }
    assert.equal(route, "default-route ginnel1 no");
    for (const name of ["web.ginnel.internal", "db.corp.example"]) {
      assert.match(String((await ask(name)).answers), /^10\.101\./);
    }
    assert.deepEqual(await ask("public.test"), publicName);
    assert.deepEqual(await ask("public.test", `@${RESOLVER}`), publicName, "where somebody asks us directly");
    await agent.stop({ signal: "SIGKILL" });
    agent = await start(RESOLVER_TEXTS.resolved, prefix);
    assert.deepEqual((await calls())[0], "revert ginnel1", "what a killed one left");
    assert.equal((await agent.stop()).code, 0);
    assert.deepEqual(await calls(), ["revert ginnel1"]);
  });

  await t.step("NetworkManager writes our servers, and its own again", async () => {
    const { prefix, calls, run } = await makeStandIn("networkmanager", `${ground.folder}/manager`);
    const snippets = () => [...Deno.readDirSync(`${run}/NetworkManager/conf.d`)].map(({ name }) => name);
    agent = await start(RESOLVER_TEXTS.networkmanager, prefix);
    assert.deepEqual(snippets(), ["zz-ginnel-ginnel1.conf"]);
    assert.match(await text(), new RegExp(`^# Generated by NetworkManager\nnameserver ${RESOLVER}\n`));
    assert.match(String((await ask("web.ginnel.internal")).answers), /^10\.101\./);
    assert.deepEqual(await ask("public.test"), publicName);
    await agent.stop({ signal: "SIGKILL" });
    assert.deepEqual(snippets(), ["zz-ginnel-ginnel1.conf"]);
    const other = await ground.startAgent(host, { socks5: "127.0.0.1:1080" }, { prefix });
    assert.equal(await text(), RESOLVER_TEXTS.networkmanager);
    assert.deepEqual(snippets(), []);
    assert.equal((await other.stop()).code, 0);
    assert.ok((await calls()).includes("general reload"));
  });

  await t.step("a server that would ask us again is not asked, and status says so", async () => {
    ground.spawn(host, [
      ...[
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-hosts",
        "--no-resolv",
        "--user=root",
      ],
      ...["--bind-interfaces", "--listen-address=127.0.0.1", `--server=${RESOLVER}`, "--pid-file="],
    ]);
    agent = await start("nameserver 127.0.0.1\n");
    assert.deepEqual((await ask("public.test")).code, "SERVFAIL");
    assert.match(String((await ask("web.ginnel.internal")).answers), /^10\.101\./);
    const { state, detail = "", hint = "" } = (await statusOf(ground, host)).parts.dns!;
    assert.equal(state, "failed");
    assert.match(detail, /^Name server 127\.0\.0\.1 asks this agent again/);
    assert.match(hint, /"serve", and have it ask 10\.101\.0\.1 for ginnel\.internal only$/);
    // One that is no loop helps out.
    await Deno.writeTextFile(file, `nameserver 127.0.0.1\nnameserver ${SERVICES.dns}\n`);
    await eventually(async () => (await ask("public.test", `@${RESOLVER}`)).code === "NOERROR", {
      timeout: 15_000,
      interval: 250,
    });
    assert.equal((await agent.stop()).code, 0);
  });
});

/** Installs the agent of a config below an /etc, /var and /run of nobody else, and takes it off again. */
async function uninstall(ground: ServiceGround): Promise<void> {
  const { folder } = ground;
  const bin = `${folder}/systemctl`;
  await Deno.mkdir(`${folder}/agent`, { recursive: true });
  await Deno.mkdir(bin);
  await Deno.writeTextFile(`${bin}/systemctl`, "#!/bin/sh\n", { mode: 0o755 });
  const program = `${Deno.execPath()} run --quiet --allow-all --unstable-net ${
    new URL("../../main.ts", import.meta.url).pathname
  }`;
  const script = [
    "mount -t tmpfs none /etc/systemd; mount -t tmpfs none /var/lib; mount -t tmpfs none /run",
    // Where systemd keeps it for the unit.
    `mkdir -p /run/ginnel && cp -a ${folder}/run-${host} /run/ginnel/agent && chmod 700 /run/ginnel`,
    `export PATH=${bin}:$PATH`,
    `${program} service install --config ${folder}/agent-1.config.json --program /bin/true`,
    `${program} service uninstall`,
    "! ls -A /run /etc/systemd/system /var/lib | grep ginnel",
  ];
  await ground.run(host, ["sh", "-ec", script.join("\n")]);
}
