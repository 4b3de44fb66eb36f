/** Small configs, and the problems of others as lines, for the tests of parsing. */

import assert from "node:assert/strict";
import { ConfigError } from "../../src/config/errors.ts";
import { parseConfig } from "../../src/config/parse_config.ts";

/** The least that a relay with policy files needs. */
export const RELAY = {
  mode: "relay",
  identity: "r.json",
  policy: ["policy.yaml", "/abs/more.yaml"],
  authority: { key: "ca/authority.key" },
};
/** The least that a connector needs. */
export const CONNECTOR = {
  mode: "connector",
  identity: "c.json",
  relays: [{ name: "relay-1", address: "relay.example:4433" }],
  services: [{ name: "web", upstream: "tcp://127.0.0.1:80" }],
};
/** The least that an agent needs. */
export const AGENT = {
  mode: "agent",
  identity: "../a.json",
  relays: [{ name: "relay-1", address: "[2001:db8::1]:4433" }],
  socks5: "127.0.0.1:1080",
};

/** Parses a config as if it lay in /etc/ginnel. */
export function parse(config: unknown): unknown {
  return parseConfig(JSON.stringify(config, null, 2), { file: "/etc/ginnel/x.json" });
}

/** The problems as `field = value: message` lines, after checking that each names the file and a place. */
export function problemsOf(config: unknown): string[] {
  try {
    parse(config);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    assert.equal(error.code, "ERR_CONFIG");
    const lines = error.message.split("\n");
    assert.equal(lines.length, error.problems.length);
    return lines.map((line) => {
      const match = /^\/etc\/ginnel\/x\.json:[1-9][0-9]*:[1-9][0-9]*: (.*)$/.exec(line);
      assert.ok(match, line);
      return match[1]!;
    });
  }
  assert.fail("expected a ConfigError");
}
