/** Costs of sealed datagrams. One at 12 us is 83,000 a second on one core. */

import {
  DatagramOpener,
  DatagramSealer,
  SEALED_DATAGRAM_HEADROOM,
} from "../../../src/dataplane/datagram/sealed_datagram.ts";
import { ReplayWindow } from "../../../src/dataplane/replay_window.ts";

const KEY = { key: new Uint8Array(32).fill(7), nonceBase: new Uint8Array(12).fill(9) };
const BATCH = 1_000;

for (const size of [64, 1_200]) {
  const payload = new Uint8Array(size);
  const sealer = new DatagramSealer(KEY);
  Deno.bench(`datagram: seal ${BATCH} of ${size} bytes`, () => {
    for (let i = 0; i < BATCH; i++) sealer.seal(payload);
  });
  const sealed = Array.from({ length: BATCH }, (): Uint8Array => {
    const end = sealer.seal(payload);
    return sealer.buffer.slice(SEALED_DATAGRAM_HEADROOM, end);
  });
  Deno.bench(`datagram: open ${BATCH} of ${size} bytes`, () => {
    const opener = new DatagramOpener(KEY);
    for (const datagram of sealed) opener.open(datagram);
  });
}

const window = new ReplayWindow();
let next = 0;
Deno.bench(`replay window: ${BATCH} numbers`, () => {
  for (let i = 0; i < BATCH; i++) window.accept(next++);
});
