/**
 * The files that `compile.sh` makes, as a user has them: one file, an empty folder, no Deno, nothing on PATH.
 */

import assert from "node:assert/strict";
import { VERSION } from "../../src/base/version.ts";
import type { Finding } from "../../src/cli/report.ts";
import type { AgentStatus } from "../../src/modes/agent/agent_status.ts";
import { Deployment, RELAY_NAME } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/free_port.ts";
import { needsRoot, needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { ServiceGround } from "../support/service_ground.ts";
import { UPSTREAM_PORTS } from "../support/service_upstreams.ts";
import { build, emptyFolder, NATIVE, startBare } from "./compiled_file.ts";

const TOOLS = [needsTool("npm"), needsTool("gcc")];
const QEMU = needsTool("qemu-aarch64-static");
const EMULATOR = NATIVE === "aarch64" ? [] : [QEMU.path, "-L", "/usr/aarch64-linux-gnu"];
const FOREIGN = NATIVE === "aarch64" ? TOOLS : [...TOOLS, needsTool("aarch64-linux-gnu-gcc"), QEMU];

const UPSTREAMS = new URL("../support/service_upstreams.ts", import.meta.url).pathname;

/** Sends five bytes by UDP and prints what comes back. */
const SAY = "exec 3<>/dev/udp/$0/$1; printf hello >&3; timeout 5 head -c 5 <&3";

/** Emulation makes a start take most of a minute. */
const PATIENCE_MS = 300_000;

const native = () => build({ arch: NATIVE, entry: "main.ts", pack: "auto" });
const arm = () => build({ arch: "aarch64", entry: "main.ts", pack: "auto" });

testNeeding(TOOLS, "the compiled file prints its version from an empty folder", async () => {
  await using home = await emptyFolder();
  const { code, stdout, stderr } = await startBare([await native(), "version"], {
    folder: home.path,
    env: { HOME: home.path },
  });
  assert.deepEqual([code, stdout, stderr], [0, `ginnel ${VERSION}\n`, ""]);
});

testNeeding(
  TOOLS,
  "the compiled file makes a CA and issues an identity, keys readable by their owner alone",
  async () => {
    await using home = await emptyFolder();
    const options = { folder: home.path, env: { HOME: home.path } };
    const file = await native();
    const init = await startBare([file, "ca", "init", "--trust-domain", "example.test"], options);
    assert.equal(init.code, 0, init.stderr);
    const issue = await startBare([file, "ca", "issue", "agent", "laptop", "-o", "laptop.json"], options);
    assert.equal(issue.code, 0, issue.stderr);
    for (const secret of ["ca/ca.key", "ca/authority.key", "laptop.json"]) {
      assert.equal(((await Deno.stat(`${home.path}/${secret}`)).mode ?? 0) & 0o777, 0o600, secret);
    }
    assert.equal(
      JSON.parse(await Deno.readTextFile(`${home.path}/laptop.json`)).id,
      "spiffe://example.test/agent/laptop",
    );
  },
);

testNeeding(
  TOOLS,
  "the compiled file answers --help everywhere, and a wrong word with one line and exit code 2",
  async () => {
    await using home = await emptyFolder();
    const options = { folder: home.path, env: { HOME: home.path } };
    const file = await native();
    for (const words of [["--help"], ["run", "--help"], ["ca", "init", "--help"], ["check", "--help"]]) {
      const { code, stdout } = await startBare([file, ...words], options);
      assert.equal(code, 0, words.join(" "));
      assert.match(stdout, /Usage: ginnel/);
    }
    for (const words of [["runn"], ["version", "--nope"], ["check", "--config", "absent.json"]]) {
      const { code, stdout, stderr } = await startBare([file, ...words], options);
      const said = stdout + stderr;
      assert.deepEqual([code, said.trimEnd().split("\n").length], [2, 1], said);
    }
  },
);

testNeeding(
  TOOLS,
  "three nodes of the compiled file carry a request to a service on a unix socket",
  async () => {
    await carryRequest([await native()]);
  },
);

testNeeding(
  FOREIGN,
  "the arm64 file runs on arm64 with its library for TUN, and serves a service to nodes of the other architecture",
  async () => {
    // One home: emulated, the first start takes a minute, each further one half of it.
    await using home = await emptyFolder();
    const program = [...EMULATOR, await arm()];
    const config = {
      mode: "agent",
      identity: "none.json",
      relays: [{ name: RELAY_NAME, address: "127.0.0.1:1" }],
      tunnel: { interface: "gp0" },
    };
    await Deno.writeTextFile(`${home.path}/agent.json`, JSON.stringify(config));
    const { stdout, stderr } = await startBare([...program, "doctor", "--config", "agent.json", "--json"], {
      folder: home.path,
      env: { HOME: home.path, PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
    });
    assert.ok(stdout.startsWith("{"), stderr);
    const { findings }: { readonly findings: Finding[] } = JSON.parse(stdout);
    const textOf = (subject: string) => findings.find((finding) => finding.subject === subject)?.text;
    assert.match(textOf("platform")!, /^linux aarch64,/);
    // The library asks the kernel; what that says depends on who asks.
    if (Deno.uid() === 0) assert.equal(textOf("TUN"), "interfaces can be made");
    else assert.doesNotMatch(textOf("TUN")!, /library/);
    await carryRequest([await native()], { connector: program, cache: `${home.path}/.cache` });
  },
);

/** Runs relay, connector and agent with `program`, or the connector with its own, and asks a dark service through them. */
async function carryRequest(
  program: readonly string[],
  { connector: other = program, cache }: {
    readonly connector?: readonly string[];
    /** Where the connector unpacks itself. */
    readonly cache?: string;
  } = {},
): Promise<void> {
  await using deployment = await Deployment.create({ program, services: [{ name: "web" }] });
  const wrap = (command: readonly string[], folder = `${deployment.folder}/cache`) => [
    ...["env", `XDG_CACHE_HOME=${folder}`],
    ...command,
  ];
  const wrapOther = (command: readonly string[]) => wrap([...other, ...command.slice(program.length)], cache);
  const start = (name: string, config: Record<string, unknown>) =>
    deployment.start(name, config, { wrap: name === "connector-1" ? wrapOther : (command) => wrap(command) });
  const path = `${deployment.folder}/web.sock`;
  await using _service = Deno.serve({ path, onListen: () => {} }, () => new Response("from the dark"));
  const [relayPort, agentPort] = [freePort(), freePort()];
  const relays = [{ name: RELAY_NAME, address: `127.0.0.1:${relayPort}` }];
  const relay = await start(RELAY_NAME, {
    mode: "relay",
    identity: await deployment.issue("relay", RELAY_NAME),
    listen: { quic: relays[0]?.address, tls: relays[0]?.address },
    policy: ["policy.json"],
    authority: { key: "ca/authority.key" },
    health: null,
  });
  // One after the other, so that emulated starts do not slow each other into time-outs.
  await relay.waitForLine(/"relay_started"/, { timeoutMs: PATIENCE_MS });
  const connector = await start("connector-1", {
    mode: "connector",
    identity: await deployment.issue("connector", "connector-1"),
    relays,
    services: [{ name: "web", upstream: `unix:${path}` }],
  });
  await connector.waitForLine(/"service_bound"/, { timeoutMs: PATIENCE_MS });
  const agent = await start("alice", {
    mode: "agent",
    identity: await deployment.issue("agent", "alice"),
    relays,
    forwards: [{ listen: `127.0.0.1:${agentPort}`, service: "web" }],
  });
  await agent.waitForLine(/"relay_connected"/, { timeoutMs: PATIENCE_MS });
  const answer = await eventually(async () => {
    const response = await fetch(`http://127.0.0.1:${agentPort}/`);
    return await response.text();
  }, { timeout: PATIENCE_MS, interval: 500 });
  assert.equal(answer, "from the dark");
  const lacking = /"(?:socket_buffers_unchanged|socket_not_dark|tcp_listener_untuned)"/;
  // An emulator does not know every socket option; on its own processor nothing may be missing.
  for (const node of other.length > 1 ? [relay, agent] : [relay, connector, agent]) {
    assert.deepEqual(node.lines.filter((line) => lacking.test(line)), [], node.name);
  }
}

testNeeding(
  [...TOOLS, needsRoot(), needsTun(), needsTool("nft"), needsTool("curl"), needsTool("ping")],
  "services appear by the compiled file: captured, named, forwarded, hosted; status and the service's unit",
  async () => {
    await using home = await emptyFolder();
    const file = await native();
    const program = ["env", `HOME=${home.path}`, file];
    await using ground = await ServiceGround.create({ program });
    const ports = (port: number) => [{ low: port, high: port }];
    const web = { addresses: ["web.corp.example"], portRanges: ports(80), protocols: ["tcp"] };
    await ground.service({
      name: "web",
      intercept: web,
      host: {
        ...{ protocol: "tcp", address: "127.0.0.1", port: UPSTREAM_PORTS.web },
        portChecks: [{ address: `127.0.0.1:${UPSTREAM_PORTS.web}`, interval: "1s", timeout: "1s" }],
      },
    });
    const echo = { addresses: ["echo.corp.example"], portRanges: ports(7), protocols: ["udp"] };
    await ground.service({ name: "echo", intercept: echo });
    await ground.allow("Dial");
    await ground.allow("Bind");
    const upstreams = ground.spawn("conn1", [Deno.execPath(), "run", "--quiet", "--allow-all", UPSTREAMS]);
    await upstreams.waitForLine(/^ready$/);
    const connector = await ground.startConnector("conn1", {
      services: [{ name: "echo", upstream: `udp://127.0.0.1:${UPSTREAM_PORTS.echo}` }],
      hosting: { allow: ["127.0.0.1"] },
    });
    await connector.waitForLine(/"service_bound".*"service":"web"/);
    const [captured, forwarded] = await Promise.all([
      ground.startAgent("agent1"),
      ground.startAgent("agent2", { services: { capture: false, autoForward: true } }),
    ]);
    const statusOf = async (host: "agent1" | "agent2"): Promise<AgentStatus> => {
      const config = `${ground.folder}/${host.replace("agent", "agent-")}.config.json`;
      return JSON.parse(await ground.run(host, [...program, "status", "--json", "--config", config]));
    };
    const say = (host: string, port: number) => ["bash", "-c", SAY, host, `${port}`];

    await ground.eventually("agent1", ["getent", "hosts", "web.ginnel.internal"]);
    const curl = ["curl", "--silent", "--show-error", "--fail", "--max-time", "20"];
    for (const name of ["web.ginnel.internal", "web.corp.example"]) {
      const answer = await ground.eventually("agent1", [...curl, `http://${name}/get`]);
      assert.deepEqual(JSON.parse(answer), { path: "/get", host: name });
    }
    await ground.eventually("agent1", ["ping", "-c", "1", "-W", "5", "echo.ginnel.internal"]);
    assert.equal(await ground.eventually("agent1", say("echo.corp.example", 7)), "hello");
    const { state, parts } = await statusOf("agent1");
    assert.deepEqual([state, parts.capture?.state, parts.dns?.state], ["connected", "on", "on"]);

    const { services } = await statusOf("agent2");
    const [echoAt, webAt] = ["echo", "web"].map((wanted) =>
      services.find(({ name }) => name === wanted)?.addresses.local ?? ""
    );
    assert.match(webAt!, /^127\.101\./);
    assert.match(await ground.eventually("agent2", [...curl, `http://${webAt}/get`]), /"\/get"/);
    assert.equal(await ground.eventually("agent2", say(echoAt!, 7)), "hello");
    for (const node of [connector, captured, forwarded]) {
      const lacking = node.lines.filter((line) =>
        /"(?:level":"(?:warn|error)|network_tool_missing)"/.test(line)
      );
      assert.deepEqual(lacking, [], node.name);
    }

    // A unit sees neither homes nor temporary files: the file must lie elsewhere.
    const place = "/usr/local/lib/ginnel-test";
    await Deno.mkdir(place);
    try {
      await Deno.copyFile(file, `${place}/ginnel`);
      await Deno.chmod(`${place}/ginnel`, 0o755);
      const config = `${ground.folder}/agent-1.config.json`;
      const shown = await startBare([`${place}/ginnel`, "service", "show", "--config", config], {
        folder: home.path,
        env: { HOME: home.path },
      });
      assert.match(shown.stdout, /^ExecStart=\/usr\/local\/lib\/ginnel-test\/ginnel run /m, shown.stderr);
    } finally {
      await Deno.remove(place, { recursive: true });
    }
  },
);

testNeeding(
  [...TOOLS, needsTun(), needsTool("nft")],
  "dev of the packed file starts itself in network namespaces, though it may run few programs only",
  async () => {
    await using home = await emptyFolder();
    await using left = await emptyFolder();
    const { code, stdout, stderr } = await startBare([await native(), "dev", "--once"], {
      folder: home.path,
      env: { HOME: home.path, TMPDIR: left.path, PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
    });
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /Making a request to http:\/\/hello\.ginnel\.internal\/\.\.\.\nIt worked/);
    assert.match(stdout, /Allowed by the egress rule "web"/);
    assert.match(stdout, /refused by the egress rule "not-this-one"/);
    assert.deepEqual([...Deno.readDirSync(left.path)], []);
  },
);
