/** The egress policy as a controller states it: nobody's, somebody's, and one that cannot be read. */

import assert from "node:assert/strict";
import { parsePrefix } from "../../../../src/base/ip.ts";
import { createLogger } from "../../../../src/base/log.ts";
import { StatedEgressSource } from "../../../../src/modes/relay/tunnel/egress_source.ts";

const ALICE = {
  uri: "spiffe://t/agent/alice",
  kind: "agent",
  name: "alice",
  attributes: new Set<string>(),
} as const;

const POLICY = {
  version: "1.0",
  clients: {
    "agent/alice": {
      rules: [{ id: "web", type: "ip_cidr", destinations: ["192.0.2.0/24"], action: "allow" }],
    },
  },
};

Deno.test("without a policy nobody has rules; with one those it names have", () => {
  const { source } = open(null);
  assert.equal(source.value.rulesFor(ALICE), undefined);
  source.set(POLICY);
  assert.notEqual(source.value.rulesFor(ALICE), undefined);
  assert.equal(source.value.rulesFor({ ...ALICE, uri: "spiffe://t/agent/bob", name: "bob" }), undefined);
  source.set(null);
  assert.equal(source.value.rulesFor(ALICE), undefined);
});

Deno.test("a policy that cannot be read changes nothing but the log", () => {
  const { source, lines } = open(POLICY);
  source.set({ version: "1.0", clients: { "agent/bob": { rules: "all" } } });
  assert.notEqual(source.value.rulesFor(ALICE), undefined);
  assert.equal(lines.filter((line) => line.includes("egress_policy_refused")).length, 1);
});

Deno.test("a relay that starts with a policy that cannot be read serves nobody until there is one that can", () => {
  const { source, lines } = open({ ...POLICY, nonsense: true });
  assert.equal(source.value.rulesFor(ALICE), undefined);
  assert.equal(lines.filter((line) => line.includes("egress_policy_refused")).length, 1);
  source.set(POLICY);
  assert.notEqual(source.value.rulesFor(ALICE), undefined);
});

function open(stated: ConstructorParameters<typeof StatedEgressSource>[0]) {
  const lines: string[] = [];
  const logger = createLogger({ write: (line) => void lines.push(line) });
  const pools = [parsePrefix("10.100.0.0/24")!];
  return { lines, source: new StatedEgressSource(stated, { trustDomain: "t", pools, logger }) };
}
