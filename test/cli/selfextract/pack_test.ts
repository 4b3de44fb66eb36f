/** The layout of a self-extracting file, as `stub.c` reads it. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { zstdDecompressSync } from "node:zlib";
import { utf8, utf8Decode } from "../../../src/base/bytes.ts";
import { assemble, packFile } from "../../../src/cli/selfextract/pack.ts";

Deno.test("assemble() lays out stub, files, arguments, index and trailer", () => {
  const files = [
    { name: "ginnel", packed: utf8("RUN"), size: 10 },
    { name: "ginnel.mjs", packed: utf8("PROGRAM"), size: 2 ** 33 },
  ];
  const bytes = assemble(utf8("STUB"), files, ["run", "--x"]);
  assert.equal(utf8Decode(bytes.subarray(0, 22)), "STUBRUNPROGRAMrun\0--x\0");
  const view = new DataView(bytes.buffer);
  const entry = (at: number) => ({
    name: utf8Decode(bytes.subarray(at, at + 32)).replace(/\0+$/, ""),
    numbers: [32, 40, 48].map((field) => Number(view.getBigUint64(at + field, true))),
  });
  assert.deepEqual(entry(22), { name: "ginnel", numbers: [4, 3, 10] });
  assert.deepEqual(entry(22 + 56), { name: "ginnel.mjs", numbers: [7, 7, 2 ** 33] });
  const body = 22 + 2 * 56;
  assert.equal(bytes.length, body + 64 + 24);
  const key = createHash("sha256").update(bytes.subarray(0, body)).digest("hex");
  assert.equal(utf8Decode(bytes.subarray(body, body + 64)), key);
  assert.equal(view.getBigUint64(body + 64, true), 8n);
  assert.equal(view.getBigUint64(body + 72, true), 2n);
  assert.equal(utf8Decode(bytes.subarray(-8)), "GINNELX1");
});

Deno.test("assemble() refuses a name that does not fit its field", () => {
  assert.throws(
    () => assemble(utf8(""), [{ name: "n".repeat(32), packed: utf8(""), size: 0 }], []),
    RangeError,
  );
});

Deno.test("packFile() makes one frame with a checksum, so that damage is found", async () => {
  const bytes = utf8("ginnel ".repeat(1000));
  const { packed, size } = await packFile("ginnel", bytes, 3);
  assert.equal(size, bytes.length);
  assert.deepEqual(new Uint8Array(zstdDecompressSync(packed)), bytes);
  assert.throws(() => zstdDecompressSync(packed.with(packed.length - 1, (packed.at(-1) ?? 0) ^ 1)));
});
