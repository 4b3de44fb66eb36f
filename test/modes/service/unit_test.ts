/** The units: what each mode may do, that systemd takes them, and that those in config/systemd are the same. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { parseConfig } from "../../../src/config/parse_config.ts";
import { needsOf, renderUnit, unitName, type UnitNeeds } from "../../../src/modes/service/unit.ts";
import { needsTool, testNeeding } from "../../support/require_tool.ts";

const ANALYZE = needsTool("systemd-analyze");
const PROGRAM = "/usr/local/bin/ginnel";
const SHIPPED = fileURLToPath(new URL("../../../config/systemd/", import.meta.url));

/** What the shipped units are for: all that a mode can do. */
const UNITS = {
  agent: { network: true, lowPorts: false },
  connector: { network: false, lowPorts: false },
  relay: { network: true, lowPorts: true },
  controller: { network: false, lowPorts: false },
} as const satisfies Record<string, UnitNeeds>;

/** The highest exposure, of 10, that `systemd-analyze security` may find: it counts what a mode cannot do without. */
const EXPOSURE = { agent: 2.5, connector: 1.8, relay: 2.5, controller: 1.8 } as const;

for (const mode of ["agent", "connector", "relay", "controller"] as const) {
  const text = renderUnit({ mode, program: PROGRAM, needs: UNITS[mode] });

  Deno.test(`config/systemd/ginnel-${mode}.service is what the program writes`, async () => {
    assert.equal(await Deno.readTextFile(`${SHIPPED}ginnel-${mode}.service`), text);
  });

  testNeeding([ANALYZE], `systemd takes the unit of mode ${mode} and finds it hardened`, async () => {
    const folder = await Deno.makeTempDir();
    try {
      const path = `${folder}/${unitName(mode)}.service`;
      // Its program has to be there.
      await Deno.writeTextFile(path, text.replaceAll(PROGRAM, "/bin/true"));
      const verified = await analyze("verify", "--man=no", path);
      assert.deepEqual([verified.code, verified.text], [0, ""]);
      const secured = await analyze("security", "--offline=true", `--threshold=${EXPOSURE[mode] * 10}`, path);
      assert.equal(secured.code, 0, secured.text);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

Deno.test("a config gets the privileges it needs and no other", () => {
  const relays = [{ name: "relay-1", address: "relay.example:4433" }];
  const agent = { mode: "agent", identity: "a.json", relays };
  const forwards = [{ listen: "127.0.0.1:8000", service: "web" }];
  const cases: [unknown, UnitNeeds][] = [
    [agent, { network: true, lowPorts: false }],
    [{ ...agent, forwards }, { network: false, lowPorts: false }],
    [{ ...agent, forwards: [{ ...forwards[0], listen: "127.0.0.1:80" }] }, {
      network: false,
      lowPorts: true,
    }],
    [{ ...agent, forwards, tunnel: {} }, { network: true, lowPorts: false }],
    [{ ...agent, services: { capture: false } }, { network: false, lowPorts: false }],
    [{ ...agent, services: { capture: false, autoForward: true } }, { network: false, lowPorts: true }],
    [
      {
        mode: "connector",
        identity: "c.json",
        relays,
        services: [{ name: "web", upstream: "tcp://127.0.0.1:80" }],
      },
      { network: false, lowPorts: false },
    ],
    [{ mode: "controller", trustDomain: "t.example", data: "data", listen: "0.0.0.0:443" }, {
      network: false,
      lowPorts: true,
    }],
  ];
  for (const [config, needs] of cases) {
    assert.deepEqual(
      needsOf(parseConfig(JSON.stringify(config), { file: "/etc/c.json" })),
      needs,
      JSON.stringify(config),
    );
  }
});

Deno.test("without need of the network a unit has no capability and no device", () => {
  const text = renderUnit({ mode: "connector", program: PROGRAM, needs: UNITS.connector });
  assert.match(text, /^AmbientCapabilities=\nCapabilityBoundingSet=\n/m);
  assert.match(text, /^PrivateDevices=yes$/m);
  assert.doesNotMatch(text, /CAP_|DeviceAllow/);
});

async function analyze(...args: string[]): Promise<{ code: number; text: string }> {
  const { code, stdout, stderr } = await new Deno.Command(ANALYZE.path, { args, env: { SYSTEMD_PAGER: "" } })
    .output();
  const decoder = new TextDecoder();
  return {
    code,
    text: decoder.decode(stderr) + (code === 0 && args[0] === "verify" ? "" : decoder.decode(stdout)),
  };
}
