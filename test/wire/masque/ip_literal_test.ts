import assert from "node:assert/strict";
import { isIPv4 as nodeIsIpv4, isIPv6 as nodeIsIpv6 } from "node:net";
import fc from "fast-check";
import { isIpv4, isIpv6 } from "../../../src/wire/masque/ip_literal.ts";

Deno.test("isIpv4() takes four octets and nothing near them", () => {
  for (const text of ["0.0.0.0", "10.100.0.1", "255.255.255.255", "1.20.199.249"]) {
    assert.ok(isIpv4(text), text);
  }
  for (
    const text of [
      "",
      "1",
      "1.2.3",
      "1.2.3.4.5",
      "1.2.3.4.",
      ".1.2.3.4",
      "1..2.3",
      "01.2.3.4",
      "256.1.1.1",
      "1.2.3.0x4",
    ]
      .concat(["1.2.3.4\n", " 1.2.3.4", "1.2.3.-4", "..."])
  ) assert.ok(!isIpv4(text), text);
});

Deno.test("isIpv6() takes the forms of RFC 4291 and nothing near them", () => {
  for (
    const text of ["::", "::1", "1::", "2001:db8::1", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8"]
      .concat(["::ffff:192.0.2.1", "1:2:3:4:5:6:192.0.2.1", "FE80::a", "64:ff9b::192.0.2.33"])
  ) assert.ok(isIpv6(text), text);
  for (
    const text of [
      "",
      ":",
      ":::",
      "1",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9",
      "1:2:3:4:5:6:7:8::",
      "1::2::3",
      "12345::",
    ]
      .concat([
        "::g",
        "fe80::1%eth0",
        "[::1]",
        "::1.2.3",
        "1.2.3.4::",
        "::1.2.3.4:5",
        ":1::",
        "1::2:",
        "::1\n",
      ])
  ) assert.ok(!isIpv6(text), text);
});

Deno.test("isIpv4() and isIpv6() agree with another implementation", () => {
  const group = fc.oneof(
    fc.nat(0xffff).map((n) => n.toString(16)),
    fc.constantFrom("", "0", "1.2.3.4", "12345", "g"),
  );
  const almost = fc.oneof(
    fc.array(group, { maxLength: 10 }).map((groups) => groups.join(":")),
    fc.ipV6(),
    fc.ipV4(),
    fc.array(fc.constantFrom("0", "01", "9", "255", "256", ""), { maxLength: 5 }).map((octets) =>
      octets.join(".")
    ),
  );
  fc.assert(
    fc.property(almost, (text) => {
      assert.equal(isIpv4(text), nodeIsIpv4(text));
      assert.equal(isIpv6(text), nodeIsIpv6(text));
    }),
    { numRuns: 2000 },
  );
});
