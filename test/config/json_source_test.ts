/** Strict JSON with places: the same values as JSON.parse, and a place for every fault. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { MAX_JSON_DEPTH, parseJsonSource } from "../../src/config/json_source.ts";
import { locateKey, locateValue, SourceFault } from "../../src/config/source_text.ts";

function faultOf(text: string): { offset: number; message: string } {
  try {
    parseJsonSource(text);
  } catch (error) {
    assert.ok(error instanceof SourceFault, String(error));
    return { offset: error.offset, message: error.message };
  }
  assert.fail(`expected a fault in ${text}`);
}

Deno.test("parseJsonSource() reads what JSON.stringify writes, with any indent", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 5 }), fc.constantFrom("", " ", "\t", "  "), (value, indent) => {
      const text = JSON.stringify(value, null, indent);
      assert.deepEqual(parseJsonSource(text).value, JSON.parse(text));
    }),
  );
});

Deno.test("parseJsonSource() accepts damaged JSON exactly when JSON.parse does", () => {
  const seed = '{"a":[1,-2.5e3,true,null,"x\\u00e9\\n"],"b":{"c":{}},"d":[[],[{}]]}';
  fc.assert(
    fc.property(
      fc.nat(seed.length),
      fc.nat(3),
      fc.stringMatching(/^[\]\[{}",:0-9a-z\\ .\-\n]{0,2}$/),
      (at, cut, put) => {
        const text = seed.slice(0, at) + put + seed.slice(at + cut);
        let expected: unknown;
        let accepts = true;
        try {
          expected = JSON.parse(text);
        } catch {
          accepts = false;
        }
        try {
          assert.deepEqual(parseJsonSource(text).value, expected);
          assert.ok(accepts, text);
        } catch (error) {
          if (!(error instanceof SourceFault)) throw error;
          assert.ok(!accepts || error.message.includes("twice") || error.message.includes("large"), text);
          assert.ok(error.offset >= 0 && error.offset <= text.length);
        }
      },
    ),
    { numRuns: 3000 },
  );
});

Deno.test("parseJsonSource() refuses a text cut short at every place", () => {
  const text = '{"a": [1, {"b": "x"}, true], "c": null}';
  for (let length = 0; length < text.length; length++) {
    assert.ok(faultOf(text.slice(0, length)).offset <= length);
  }
});

Deno.test("faults say what is wrong, and where", () => {
  const cases: [text: string, offset: number, message: RegExp][] = [
    ["", 0, /empty/],
    [" \n", 2, /empty/],
    ["{} {}", 3, /more after the end/],
    ['{"a":1,}', 7, /no comma before }/],
    ["[1,]", 3, /no comma before \]/],
    ["{a:1}", 1, /field name in double quotes/],
    ["{'a':1}", 1, /field name in double quotes/],
    ['{"a" 1}', 5, /expected : after field "a"/],
    ['{"a":1 "b":2}', 7, /expected , or }/],
    ["[1 2]", 3, /expected , or \]/],
    ['{"a": yes}', 6, /double quotes/],
    ['{"a": undefined}', 6, /double quotes/],
    ['{"a": toString}', 6, /double quotes/],
    ["// x\n{}", 0, /no comments/],
    ['{"a":1} # x', 8, /more after/],
    ['["a\nb"]', 1, /raw line break/],
    ['["a]', 1, /does not end/],
    ['["\\x"]', 1, /wrong escape/],
    ["[01]", 2, /expected , or \]/],
    ["[1e999]", 1, /too large/],
    ["[+1]", 1, /expected a value/],
    ['{"a":1,"a":2}', 7, /"a" is given twice/],
    ['{"a":1,"\\u0061":2}', 7, /"a" is given twice/],
  ];
  for (const [text, offset, message] of cases) {
    const fault = faultOf(text);
    assert.match(fault.message, message, text);
    assert.equal(fault.offset, offset, text);
  }
});

Deno.test("nesting is bounded", () => {
  const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
  assert.doesNotThrow(() => parseJsonSource(nested(MAX_JSON_DEPTH)));
  assert.match(faultOf(nested(MAX_JSON_DEPTH + 2)).message, /nested/);
  assert.match(faultOf("[".repeat(1_000_000)).message, /nested/);
});

Deno.test("__proto__ is a field like any other and changes no prototype", () => {
  const { value } = parseJsonSource('{"__proto__":{"polluted":true}}');
  assert.equal(Object.getPrototypeOf(value), Object.prototype);
  assert.deepEqual(Object.keys(value as object), ["__proto__"]);
  assert.equal((value as { polluted?: boolean }).polluted, undefined);
});

Deno.test("a byte order mark is skipped without moving places", () => {
  const source = parseJsonSource('\uFEFF{"a": 1}');
  assert.deepEqual(source.value, { a: 1 });
  assert.equal(locateValue(source.root, ["a"]), 7);
});

Deno.test("places lead to values, keys and, for what is absent, to what is around it", () => {
  const text = '{"a": [10, {"b": true}]}';
  const { root } = parseJsonSource(text);
  assert.equal(locateValue(root, []), 0);
  assert.equal(locateValue(root, ["a", 0]), text.indexOf("10"));
  assert.equal(locateValue(root, ["a", 1, "b"]), text.indexOf("true"));
  assert.equal(locateKey(root, ["a", 1, "b"]), text.indexOf('"b"'));
  assert.equal(locateValue(root, ["a", 1, "absent", "deeper"]), text.indexOf('{"b"'));
  assert.equal(locateKey(root, ["absent"]), 0);
  assert.equal(locateKey(root, ["a", 9, "absent"]), text.indexOf("[10"));
});
