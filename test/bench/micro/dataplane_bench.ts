/** Costs of sealing, opening and splicing. A record of 64 KiB at 100 us is 5.2 Gbit/s. */

import { RECORD_OVERHEAD, RECORD_TYPE, RecordOpener, RecordSealer } from "../../../src/dataplane/record.ts";
import { splice } from "../../../src/dataplane/splice.ts";
import { channelPair, type MemoryChannel } from "../../support/channel_pair.ts";

const KEY = { key: new Uint8Array(32).fill(7), nonceBase: new Uint8Array(12).fill(9) };
const SIZES = [1_200, 16_384, 65_536];
const SPLICE_BYTES = 16 << 20;
const CHUNK = new Uint8Array(65_536);

for (const size of SIZES) {
  const plaintext = new Uint8Array(size);
  const target = new Uint8Array(size + RECORD_OVERHEAD);
  Deno.bench(`record: seal ${size} bytes`, { group: `record ${size}` }, (b) => {
    const sealer = new RecordSealer(KEY);
    b.start();
    sealer.seal(RECORD_TYPE.DATA, plaintext, { target, offset: 0 });
    b.end();
  });
  Deno.bench(`record: seal and open ${size} bytes`, { group: `record ${size}` }, (b) => {
    const sealer = new RecordSealer(KEY);
    const opener = new RecordOpener(KEY);
    b.start();
    sealer.seal(RECORD_TYPE.DATA, plaintext, { target, offset: 0 });
    opener.push(target, 0);
    b.end();
    if (opener.record === undefined) throw new Error("The record did not open");
  });
}

Deno.bench("splice: 16 MiB in chunks of 64 KiB between channels in memory", async () => {
  const [source, left] = channelPair();
  const [right, sink] = channelPair();
  await Promise.all([splice(left, right), fill(source), drain(sink)]);
});

async function fill(channel: MemoryChannel): Promise<void> {
  for (let sent = 0; sent < SPLICE_BYTES; sent += CHUNK.length) await channel.write(CHUNK);
  await channel.closeWrite();
}

async function drain(channel: MemoryChannel): Promise<void> {
  while (await channel.read() !== null);
  await channel.closeWrite();
}
