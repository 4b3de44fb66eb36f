import assert from "node:assert/strict";
import { doctorCommand } from "../../src/cli/doctor.ts";
import { inspectClock, inspectDescriptors, inspectPlatform } from "../../src/cli/doctor_system.ts";
import { judgeClock } from "../../src/cli/doctor_network.ts";
import { judgeName } from "../../src/cli/doctor_services.ts";
import { inspectConfig } from "../../src/cli/inspect_config.ts";
import { type ForwardingCase, judgeForwarding } from "../../src/cli/doctor_tunnel.ts";
import { printFindings, worst } from "../../src/cli/report.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { loadConfig } from "../../src/config/parse_config.ts";
import { runMode } from "../../src/modes/run.ts";
import { eventually } from "../support/eventually.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { editJson, fileOf, makeDemoFolder, Printed } from "./demo_folder.ts";

Deno.test("platform, clock and limits are judged, each failing line with what to do", () => {
  const build = { os: "linux", arch: "aarch64" };
  const rows = [
    [inspectPlatform(build, "2.9.5"), "ok"],
    [inspectPlatform(build, "2.8.0"), "warn"],
    [inspectPlatform({ os: "darwin", arch: "aarch64" }, "2.9.5"), "fail"],
    [inspectPlatform({ os: "linux", arch: "riscv64" }, "2.9.5"), "fail"],
    [inspectClock(Date.UTC(2026, 5, 1)), "ok"],
    [inspectClock(0), "fail"],
    [inspectClock(Date.UTC(2100, 0, 1)), "fail"],
    [
      inspectDescriptors("Max open files            1024                 4096                 files\n"),
      "warn",
    ],
    [inspectDescriptors("Max open files            65536                65536                files\n"), "ok"],
    [inspectDescriptors("Max open files            unlimited            unlimited            files\n"), "ok"],
    [inspectDescriptors(undefined), "warn"],
  ] as const;
  for (const [finding, verdict] of rows) {
    assert.equal(finding.verdict, verdict, finding.text);
    assert.equal(finding.hint !== undefined, verdict !== "ok", finding.text);
  }
});

Deno.test("findings are in colour on a terminal only", () => {
  const findings = [
    { verdict: "ok", subject: "a", text: "fine" },
    { verdict: "fail", subject: "bcd", text: "not fine", hint: "Mend it" },
  ] as const;
  const plain = new Printed();
  printFindings(findings, { io: plain, json: false });
  assert.equal(plain.out, "ok    a    fine\nfail  bcd  not fine\n           -> Mend it\n");
  const terminal = new Printed(true);
  printFindings(findings, { io: terminal, json: false });
  assert.ok(terminal.out.startsWith("\x1b[32mok  \x1b[0m  a"), terminal.out);
  assert.equal(worst(findings), "fail");
  assert.equal(worst([]), "ok");
});

Deno.test("a clock is judged by a controller's, in the seconds that proofs are given", () => {
  const rows: [number, string][] = [[0, "ok"], [-10_000, "ok"], [11_000, "warn"], [-30_000, "warn"], [
    31_000,
    "fail",
  ]];
  for (const [ahead, verdict] of rows) {
    const finding = judgeClock(ahead, "controller-1");
    assert.equal(finding.verdict, verdict, finding.text);
    assert.equal(finding.hint !== undefined, verdict !== "ok", finding.text);
  }
  assert.match(judgeClock(-90_000, "controller-1").text, /^90 s behind controller-1's$/);
});

Deno.test("an identity that has expired is in the way, and still tells whom to ask", async () => {
  const { agentConfig } = await makeDemoFolder();
  const { findings, identity } = await inspectConfig(agentConfig, Date.now() + 400 * 86_400_000);
  const found = findings.filter(({ subject }) => subject === "identity");
  assert.deepEqual(found.map(({ verdict }) => verdict), ["fail"]);
  assert.match(found[0]!.text, /expired/);
  assert.match(found[0]!.hint!, /^Check the clock; if it is right, enrol again/);
  assert.equal(identity?.id.kind, "agent");
});

Deno.test("a name that leads elsewhere, or nowhere, is in the way", () => {
  const service = {
    names: ["web.ginnel.internal"],
    addresses: { ipv4: "10.101.0.16", ipv6: "fd00::10" },
  };
  assert.equal(judgeName(service, ["10.101.0.16"]).verdict, "ok");
  assert.equal(judgeName(service, ["fd00::10", "10.101.0.16"]).verdict, "ok");
  for (const found of [["192.0.2.1"], ["10.101.0.16", "192.0.2.1"], new Error("not found")]) {
    const finding = judgeName(service, found);
    assert.equal(finding.verdict, "fail", finding.text);
    assert.match(finding.hint ?? "", /resolv/);
  }
});

Deno.test("doctor looks at this machine and prints JSON when asked", async () => {
  const io = new Printed();
  assert.equal(await doctorCommand(["--json"], io), 0, io.out);
  const { findings } = JSON.parse(io.out);
  const subjects = findings.map(({ subject }: { subject: string }) => subject);
  assert.deepEqual(subjects, ["platform", "clock", "open files", "libc calls", "UDP buffers", "UDP"]);
});

Deno.test("doctor --config tries the relays by both carriers and the upstreams", async () => {
  const demo = await makeDemoFolder();
  const down = new Printed();
  assert.equal(await doctorCommand(["--config", demo.connectorConfig], down), 1);
  assert.match(down.out, /fail +relay relay-1 +QUIC to [^]*fail +relay relay-1 +TLS to /);
  assert.match(down.out, /fail +service hello +Upstream does not exist: unix:[^]*Start the service/);

  const relay = await runMode(await loadConfig(demo.relayConfig), { logger: SILENT_LOGGER });
  using _service = Deno.listen({ transport: "unix", path: demo.socket });
  const up = new Printed();
  const code = await doctorCommand(["--config", demo.connectorConfig], up);
  await relay.shutdown("test over");
  assert.equal(code, 0, up.out);
  assert.match(up.out, /ok +relay relay-1 +QUIC to \S+ works, \d+ ms[^]*ok +relay relay-1 +TLS to /);
  assert.match(up.out, /ok +service hello/);
});

Deno.test("doctor asks the running agent where services are to appear by name", async () => {
  const demo = await makeDemoFolder();
  await editJson(demo.agentConfig, (config) => {
    config.services = { capture: false };
    config.control = `unix:${fileOf(demo, "agent.sock")}`;
  });
  const relay = await runMode(await loadConfig(demo.relayConfig), { logger: SILENT_LOGGER });
  const away = new Printed();
  assert.equal(await doctorCommand(["--config", demo.agentConfig], away), 0, away.out);
  assert.match(away.out, /warn +agent +not running[^]*-> Start it: ginnel run/);
  assert.doesNotMatch(away.out, /capture|DNS/);

  const agent = await runMode(await loadConfig(demo.agentConfig), { logger: SILENT_LOGGER });
  const there = await eventually(async () => {
    const io = new Printed();
    await doctorCommand(["--config", demo.agentConfig], io);
    return /ok +agent +connected/.test(io.out) && io;
  });
  await agent.shutdown("test over");
  await relay.shutdown("test over");
  assert.match(there.out, /ok +agent +connected, pid \d+/);
});

Deno.test("forwarding is judged by what the relay may do about it", () => {
  const rows: [4 | 6, ForwardingCase["forwarding"], ForwardingCase["nat"], boolean, string][] = [
    [4, "on", "masquerade", true, "ok"],
    [4, "on", "none", true, "ok"],
    [4, "off", "masquerade", true, "ok"],
    [6, "off", "masquerade", true, "ok"],
    [4, "off", "none", true, "warn"],
    [4, "locked", "masquerade", true, "fail"],
    [6, "locked", "masquerade", true, "warn"],
    [6, "locked", "masquerade", false, "fail"],
    [4, "locked", "none", false, "warn"],
    [6, "absent", "masquerade", true, "warn"],
  ];
  for (const [version, forwarding, nat, hasOther, verdict] of rows) {
    const finding = judgeForwarding(version, { forwarding, nat, hasOther });
    assert.equal(finding.verdict, verdict, finding.text);
    assert.equal(finding.hint !== undefined, verdict !== "ok", finding.text);
  }
});

const TUNNEL_NEEDS = [needsTun(), needsTool("nft")];
const SETPRIV = needsTool("setpriv", { install: "part of every Linux system" });
const UNSHARE = needsTool("unshare", { install: "part of every Linux system" });
const TUNNEL_SUBJECTS = ["CAP_NET_ADMIN", "TUN", "ip", "nft", "forwarding"];

/** The lines of `doctor` about tunnels, run in a network namespace of its own. */
async function inspectTunnel(
  config: string,
  within: readonly string[] = [],
): Promise<{ verdict: string; subject: string; text: string; hint?: string }[]> {
  const main = new URL("../../main.ts", import.meta.url).pathname;
  const words = [...within, Deno.execPath(), "run", "-A", main, "doctor", "--json", "--config", config];
  // A new namespace may forward because the machine does.
  const off = `echo 0 > /proc/sys/net/ipv4/ip_forward; exec "$@"`;
  const command = new Deno.Command(UNSHARE.path, { args: ["-n", "--", "sh", "-c", off, "sh", ...words] });
  const { findings } = JSON.parse(new TextDecoder().decode((await command.output()).stdout));
  return findings.filter(({ subject }: { subject: string }) => TUNNEL_SUBJECTS.includes(subject));
}

testNeeding([...TUNNEL_NEEDS, UNSHARE, SETPRIV], "doctor looks at what a config's tunnel needs", async () => {
  const demo = await makeDemoFolder();
  assert.deepEqual(await inspectTunnel(demo.relayConfig), []);
  await Deno.writeTextFile(fileOf(demo, "egress.yaml"), "clients: {}\n");
  await editJson(demo.relayConfig, (config) => config.tunnel = { policy: ["egress.yaml"], ipv6: null });
  await editJson(demo.agentConfig, (config) => config.tunnel = {});

  const relay = await inspectTunnel(demo.relayConfig);
  assert.deepEqual(relay.map(({ verdict, subject }) => [verdict, subject]), [
    ["ok", "CAP_NET_ADMIN"],
    ["ok", "TUN"],
    ["ok", "ip"],
    ["ok", "nft"],
    ["ok", "forwarding"],
  ]);
  assert.match(relay.at(-1)!.text, /IPv4 is off; the relay switches it on/);

  const agent = await inspectTunnel(demo.agentConfig);
  assert.deepEqual(agent.map(({ subject }) => subject), ["CAP_NET_ADMIN", "TUN", "ip"]);

  const bare = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
  const poor = await inspectTunnel(demo.relayConfig, bare);
  assert.deepEqual(poor.map(({ verdict, subject }) => [verdict, subject]), [
    ["fail", "CAP_NET_ADMIN"],
    ["ok", "ip"],
    ["fail", "nft"],
    ["fail", "forwarding"],
  ]);
  for (const { hint, subject } of poor.filter(({ verdict }) => verdict === "fail")) {
    assert.match(hint ?? "", /cap_net_admin|--cap-add NET_ADMIN|sysctl/, subject);
  }
});
