import assert from "node:assert/strict";
import fc from "fast-check";
import { ipWords, parseIp } from "../../src/base/ip.ts";
import { TunnelRegistry } from "../../src/core/tunnel_registry.ts";

interface Session {
  readonly name: string;
}

function add(registry: TunnelRegistry<Session>, session: Session, identity: string, ...addresses: string[]) {
  return registry.add({ identity, addresses: addresses.map((text) => parseIp(text)!), session });
}

function at(registry: TunnelRegistry<Session>, text: string): Session | undefined {
  const address = parseIp(text)!;
  return registry.byAddress(address.version, ...ipWords(address));
}

Deno.test("a session is found by each of its addresses and by its identity, and by nothing else", () => {
  const registry = new TunnelRegistry<Session>();
  const session = { name: "1" };
  assert.equal(add(registry, session, "alice", "10.0.0.2", "fd00::2"), undefined);
  assert.equal(at(registry, "10.0.0.2"), session);
  assert.equal(at(registry, "fd00::2"), session);
  assert.equal(registry.byIdentity("alice"), session);
  for (const other of ["10.0.0.3", "10.0.1.2", "fd00::3", "fd00:1::2", "::ffff:10.0.0.2", "::10.0.0.2"]) {
    assert.equal(at(registry, other), undefined, other);
  }
  assert.equal(registry.byIdentity("bob"), undefined);
  assert.deepEqual([...registry.sessions()], [session]);
});

Deno.test("a new session takes over addresses and identity; the old one cannot take them away any more", () => {
  const registry = new TunnelRegistry<Session>();
  const [old, young] = [{ name: "old" }, { name: "young" }];
  add(registry, old, "alice", "10.0.0.2", "fd00::2");
  assert.equal(add(registry, young, "alice", "10.0.0.2"), old);
  assert.equal(registry.remove(old), false);
  assert.equal(at(registry, "10.0.0.2"), young);
  assert.equal(at(registry, "fd00::2"), undefined, "what only the old one had is free");
  assert.deepEqual([...registry.sessions()], [young]);
  assert.equal(registry.remove(young), true);
  assert.equal(registry.remove(young), false);
  assert.equal(at(registry, "10.0.0.2"), undefined);
  assert.equal(registry.size, 0);
});

Deno.test("an address in use never moves to another identity, and the refused session leaves no trace", () => {
  const registry = new TunnelRegistry<Session>();
  const [alice, bob, again] = [{ name: "alice" }, { name: "bob" }, { name: "again" }];
  add(registry, alice, "alice", "10.0.0.2");
  add(registry, bob, "bob", "10.0.0.3");
  assert.throws(
    () => add(registry, again, "bob", "10.0.0.4", "10.0.0.2"),
    /10\.0\.0\.2 to bob: alice has it/,
  );
  assert.equal(at(registry, "10.0.0.2"), alice);
  assert.equal(registry.byIdentity("bob"), bob);
  assert.equal(at(registry, "10.0.0.4"), undefined);
  assert.throws(() => add(registry, alice, "carol", "10.0.0.9"), TypeError);
});

Deno.test("any sequence of joins and leaves gives what searching a list gives", () => {
  const action = fc.oneof(
    fc.record({ join: fc.nat({ max: 5 }), addresses: fc.uniqueArray(fc.nat({ max: 7 }), { maxLength: 2 }) }),
    fc.record({ leave: fc.nat({ max: 30 }) }),
  );
  const text = (n: number) => n % 2 === 0 ? `10.0.0.${n}` : `fd00::${n}`;
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60, size: "max" }), (actions) => {
      const registry = new TunnelRegistry<Session>();
      const made: Session[] = [];
      let list: { identity: string; addresses: number[]; session: Session }[] = [];
      for (const each of actions) {
        if ("leave" in each) {
          const session = made[each.leave];
          if (session === undefined) continue;
          assert.equal(registry.remove(session), list.some((entry) => entry.session === session));
          list = list.filter((entry) => entry.session !== session);
        } else {
          const identity = `id-${each.join}`;
          const session = { name: `${made.length}` };
          const clash = list.some((entry) =>
            entry.identity !== identity && entry.addresses.some((n) => each.addresses.includes(n))
          );
          const join = () => add(registry, session, identity, ...each.addresses.map(text));
          if (clash) {
            assert.throws(join, TypeError);
          } else {
            assert.equal(join(), list.find((entry) => entry.identity === identity)?.session);
            list = list.filter((entry) => entry.identity !== identity);
            list.push({ identity, addresses: each.addresses, session });
            made.push(session);
          }
        }
        for (let n = 0; n <= 7; n++) {
          assert.equal(
            at(registry, text(n)),
            list.find((entry) => entry.addresses.includes(n))?.session,
            text(n),
          );
        }
        assert.deepEqual([...registry.sessions()], list.map(({ session }) => session));
        assert.equal(registry.size, list.length);
      }
    }),
  );
});
