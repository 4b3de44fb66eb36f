/** Costs of the wire codecs. `deno bench --allow-all test/bench/micro/` */

import { concat } from "../../../src/base/bytes.ts";
import { encodeFrame, FrameReader } from "../../../src/wire/h3/frame.ts";
import { decodeFieldSection } from "../../../src/wire/qpack/decoder.ts";
import { encodeFieldSection } from "../../../src/wire/qpack/encoder.ts";
import type { Field } from "../../../src/wire/qpack/static_table.ts";
import { readVarint, writeVarint } from "../../../src/wire/varint.ts";

const VALUES = [37, 15_293, 494_878_333, 151_288_809_941_952];
const buffer = new Uint8Array(8);

for (const value of VALUES) {
  Deno.bench(`varint: write and read ${value}`, { group: "varint" }, () => {
    writeVarint(buffer, 0, value);
    readVarint(buffer, 0);
  });
}

/** A flow request as an agent sends it, with a proof of common size. */
const FIELDS: readonly Field[] = [
  [":method", "CONNECT"],
  [":protocol", "connect-tcp"],
  [":scheme", "https"],
  [":authority", "relay-1.relay.ginnel.internal"],
  [":path", "/.well-known/masque/tcp/rtmx-sync/443/"],
  ["ginnel-sealed", "?1"],
  ["authorization", `Bearer ${"eyJhbGciOiJFUzI1NiIs".repeat(80)}`],
];
const section = encodeFieldSection(FIELDS);

Deno.bench("qpack: encode a flow request with its proof", { group: "qpack" }, () => {
  encodeFieldSection(FIELDS);
});
Deno.bench("qpack: decode a flow request with its proof", { group: "qpack" }, () => {
  decodeFieldSection(section, { maxFieldSectionSize: 16_384 });
});

const FRAMES = concat(Array.from({ length: 64 }, () => encodeFrame(0, new Uint8Array(1_024))));

Deno.bench("h3: read 64 DATA frames of 1 KiB from one chunk", { group: "h3" }, () => {
  const reader = new FrameReader(() => "stream");
  reader.push(FRAMES);
  while (reader.next() !== undefined);
});
