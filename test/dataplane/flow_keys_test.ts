/** Key derivation, checked against HKDF written out from RFC 5869. */

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { concat, toHex, utf8 } from "../../src/base/bytes.ts";
import {
  deriveDatagramKeys,
  deriveFlowKeys,
  deriveSessionId,
  deriveSessionSecret,
  type FlowKeys,
} from "../../src/dataplane/flow_keys.ts";

const INPUT = {
  serverRandom: new Uint8Array(32).fill(1),
  clientRandom: new Uint8Array(32).fill(2),
  agent: "spiffe://td/agent/a",
  connector: "spiffe://td/connector/c",
};

Deno.test("deriveSessionSecret() is HKDF-SHA256 over both randoms, bound to both ends", () => {
  const info = "ginnel-e2e/1 secret\0spiffe://td/agent/a\0spiffe://td/connector/c";
  const expected = hkdf(concat([INPUT.serverRandom, INPUT.clientRandom]), { info: utf8(info), length: 32 });
  assert.equal(toHex(deriveSessionSecret(INPUT)), toHex(expected));
});

Deno.test("deriveSessionSecret() changes with every input", () => {
  const variants = [
    INPUT,
    { ...INPUT, serverRandom: new Uint8Array(32).fill(3) },
    { ...INPUT, clientRandom: new Uint8Array(32).fill(3) },
    { ...INPUT, serverRandom: INPUT.clientRandom, clientRandom: INPUT.serverRandom },
    { ...INPUT, agent: "spiffe://td/agent/b" },
    { ...INPUT, connector: "spiffe://td/connector/d" },
    { ...INPUT, agent: INPUT.connector, connector: INPUT.agent },
  ];
  assert.equal(new Set(variants.map((input) => toHex(deriveSessionSecret(input)))).size, variants.length);
});

Deno.test("deriveFlowKeys() is HKDF-SHA256 with the flow id, and mirrors between the ends", () => {
  const secret = deriveSessionSecret(INPUT);
  const info = concat([utf8("ginnel-e2e/1 flow"), Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 2)]);
  const block = hkdf(secret, { info, length: 88 });
  const flowId = (1n << 32n) + 2n;
  const agent = deriveFlowKeys(secret, { flowId, role: "agent" });
  assert.equal(toHex(concat(parts(agent))), toHex(block));
  const connector = deriveFlowKeys(secret, { flowId, role: "connector" });
  assert.deepEqual(connector, { send: agent.receive, receive: agent.send });
});

Deno.test("deriveDatagramKeys() is HKDF-SHA256 under a label of its own, and mirrors between the ends", () => {
  const secret = deriveSessionSecret(INPUT);
  const info = concat([utf8("ginnel-e2e/1 datagram"), Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 7)]);
  const agent = deriveDatagramKeys(secret, { flowId: 7n, role: "agent" });
  assert.equal(toHex(concat(parts(agent))), toHex(hkdf(secret, { info, length: 88 })));
  const connector = deriveDatagramKeys(secret, { flowId: 7n, role: "connector" });
  assert.deepEqual(connector, { send: agent.receive, receive: agent.send });
});

Deno.test("The derivations never yield the same bytes twice", () => {
  const secret = deriveSessionSecret(INPUT);
  const all = [0n, 1n, 1n << 32n, (1n << 64n) - 1n].flatMap((flowId) =>
    [deriveFlowKeys, deriveDatagramKeys].flatMap((derive) =>
      parts(derive(secret, { flowId, role: "agent" })).map(toHex)
    )
  );
  all.push(toHex(secret), toHex(deriveSessionId(secret)));
  assert.equal(new Set(all).size, all.length);
});

function parts({ send, receive }: FlowKeys): Uint8Array[] {
  return [send.key, send.nonceBase, receive.key, receive.nonceBase];
}

/** HKDF of RFC 5869 with an empty salt. */
function hkdf(
  secret: Uint8Array,
  { info, length }: { readonly info: Uint8Array; readonly length: number },
): Uint8Array {
  const extracted = createHmac("sha256", new Uint8Array(32)).update(secret).digest();
  const blocks: Uint8Array[] = [];
  let last: Uint8Array = new Uint8Array(0);
  for (let i = 1; blocks.length * 32 < length; i++) {
    last = createHmac("sha256", extracted).update(concat([last, info, Uint8Array.of(i)])).digest();
    blocks.push(last);
  }
  return concat(blocks).subarray(0, length);
}
