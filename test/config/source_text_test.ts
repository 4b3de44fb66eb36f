/** Lines and columns count as editors do. */

import assert from "node:assert/strict";
import { placeOf } from "../../src/config/source_text.ts";

Deno.test("placeOf() counts lines and columns from 1", () => {
  const text = "ab\n\ncd";
  assert.deepEqual([0, 1, 2, 3, 4, 5, 6].map((offset) => Object.values(placeOf(text, offset)).join(":")), [
    "1:1",
    "1:2",
    "1:3",
    "2:1",
    "3:1",
    "3:2",
    "3:3",
  ]);
});
