/**
 * UDP load from within an agent without interface or socket: flows of datagrams as the dialer has them. Speaks
 * `tools/udpload.c`'s protocol with its server behind the service, and prints the same JSON line.
 *
 *   datagram_dialer.ts IDENTITY SERVICE PORT SIZE PER_SECOND MILLISECONDS
 */

import { SILENT_LOGGER } from "../../src/base/log.ts";
import { FlowDialer } from "../../src/modes/agent/flow_dialer.ts";
import { SessionPool } from "../../src/modes/agent/sessions.ts";
import { Node } from "../../src/modes/shared/node.ts";

const MAGIC = 0x47554450;
const KIND = { data: 1, ask: 2, answer: 3 } as const;
/** Datagrams sent before the event loop gets its turn. */
const BURST = 32;

const [identity = "", service = "", port = "", size = "", perSecond = "", milliseconds = ""] = Deno.args;
const logger = SILENT_LOGGER;
const node = await Node.create({ identity, relays: [], carrier: "quic" }, { logger });
const sessions = new SessionPool({ identity: () => node.identity, trust: () => node.trust(), logger });
const dialer = new FlowDialer({ relays: () => node.clients, views: node.views, sessions, logger });
node.connect(() => ({ onConnected: () => Promise.resolve(), onLost: () => {} }));
await node.views.waitFor(() => node.views.newest !== undefined && node.views.mayDial(service), 10_000);
const flow = await dialer.connectDatagrams({ service, port: Number(port), protocol: "udp" }, {
  signal: AbortSignal.timeout(10_000),
});
while (flow.maxPayload < Number(size)) await pause(20);

const bytes = new Uint8Array(Number(size));
const view = new DataView(bytes.buffer);
const run = (Date.now() | 1) >>> 0;
write(KIND.data);
let sent = 0;
const started = performance.now(), length = Number(milliseconds), rate = Number(perSecond) / 1_000;
for (let elapsed = 0; elapsed < length; elapsed = performance.now() - started) {
  const due = Math.min(BURST, Math.floor(elapsed * rate) - sent);
  for (let i = 0; i < due; i++) {
    view.setBigUint64(32, BigInt(sent), true);
    if (flow.send(bytes, 0, bytes.length)) sent++;
    else {
      await flow.writable();
      break;
    }
  }
  await (due < BURST ? pause(0) : new Promise((resolve) => setImmediate(resolve)));
}

let received = -1, seconds = length / 1_000;
for (let tries = 0, isSettled = false; !isSettled && tries < 20; tries++) {
  const answer = new Promise<Uint8Array>((resolve) => flow.receive((payload) => resolve(payload.slice())));
  write(KIND.ask);
  flow.send(bytes, 0, 48);
  const payload = await Promise.race([answer, pause(300)]);
  if (!payload || payload.length < 48) continue;
  const got = new DataView(payload.buffer);
  const count = Number(got.getBigUint64(32, true));
  isSettled = count === received;
  received = count;
  seconds = Math.max(length / 1_000, got.getFloat64(40, true));
  await pause(50);
}
const lossPercent = (sent - received) / sent * 100;
console.log(JSON.stringify({ sent, received, perSecond: Math.round(received / seconds), lossPercent }));
Deno.exit(0);

function write(kind: number): void {
  [MAGIC, kind, run].forEach((value, index) => view.setUint32(index * 4, value, true));
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
