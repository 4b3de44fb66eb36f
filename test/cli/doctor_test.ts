import assert from "node:assert/strict";
import { doctorCommand } from "../../src/cli/doctor.ts";
import { inspectClock, inspectDescriptors, inspectPlatform } from "../../src/cli/doctor_system.ts";
import { printFindings, worst } from "../../src/cli/report.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { loadConfig } from "../../src/config/parse_config.ts";
import { runMode } from "../../src/modes/run.ts";
import { makeDemoFolder, Printed } from "./demo_folder.ts";

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
