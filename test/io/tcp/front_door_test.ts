/** The door before a real HTTP server: who says nothing, speaks slowly or comes in crowds shuts nobody else out. */

import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { type DoorLimits, FrontDoor } from "../../../src/io/tcp/front_door.ts";
import { eventually } from "../../support/eventually.ts";

Deno.test("a request comes through with the address of who makes it, and none that goes around the door", async () => {
  await using ground = openGround();
  assert.equal(await ask(ground.door.port, { from: "127.0.0.7" }), "127.0.0.7");
  assert.equal(await ask(ground.inner), "nobody");
  const text = "x".repeat(300_000);
  const echoed = await fetch(`http://127.0.0.1:${ground.door.port}/echo`, { method: "POST", body: text });
  assert.equal(await echoed.text(), text);
});

Deno.test("who makes no request in time is sent away, whatever it says meanwhile", async () => {
  await using ground = openGround({ firstRequestMs: 300 });
  const mute = await Caller.open(ground.door.port);
  const slow = await Caller.open(ground.door.port);
  slow.say("GET / HTTP/1.1\r\nHost: a\r\n");
  const honest = await Caller.open(ground.door.port);
  honest.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  await eventually(() => {
    slow.say("x");
    return mute.isClosed && slow.isClosed;
  });
  assert.match(honest.heard, /^HTTP\/1\.1 200/);
  assert.equal(honest.isClosed, false, "who has asked may stay");
  honest.close();
});

Deno.test("who falls silent is sent away, but not who is being told something", async () => {
  await using ground = openGround({ silenceMs: 500 });
  const idle = await Caller.open(ground.door.port);
  idle.say("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  const told = await Caller.open(ground.door.port);
  told.say("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
  await eventually(() => {
    ground.tell();
    return idle.isClosed;
  });
  const before = told.heard.length;
  ground.tell();
  await eventually(() => told.heard.length > before);
  assert.equal(told.isClosed, false);
  told.close();
});

Deno.test("who has most connections makes room for others, and only for others", async () => {
  await using ground = openGround({ maxConnections: 20 });
  const crowd: Caller[] = [];
  for (let n = 0; n < 40; n++) crowd.push(await Caller.open(ground.door.port, { from: "127.0.0.9" }));
  await eventually(() => crowd.filter(({ isClosed }) => isClosed).length === 20);
  assert.ok(crowd.slice(0, 20).every(({ isClosed }) => !isClosed), "the first ones stay against their like");
  for (let n = 1; n <= 5; n++) {
    assert.equal(await ask(ground.door.port, { from: `127.0.1.${n}` }), `127.0.1.${n}`);
  }
  for (const caller of crowd) caller.close();
  await Promise.all(crowd.map(({ closed }) => closed));
  await eventually(async () => await ask(ground.door.port, { from: "127.0.0.9" }) === "127.0.0.9");
});

Deno.test("the last answer arrives though the server closes on a caller that talks on, and then that is over too", async () => {
  await using ground = openGround();
  using server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  ground.door.leadTo(server.addr.port);
  const caller = await Caller.open(ground.door.port, { allowHalfOpen: true });
  const accepted = await server.accept();
  await accepted.write(new TextEncoder().encode("enough"));
  accepted.close();
  await eventually(() => {
    caller.say("x".repeat(4_096));
    return caller.isClosed;
  });
  assert.equal(caller.heard, "enough");
});

Deno.test("the door leads new connections to a new server, and ends all when it closes", async () => {
  const ground = openGround();
  const old = await Caller.open(ground.door.port);
  old.say("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n");
  await eventually(() => {
    ground.tell();
    return old.heard.length > 0;
  });
  await using next = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    () => new Response("next"),
  );
  ground.door.leadTo(next.addr.port);
  assert.equal(await ask(ground.door.port), "next");
  assert.equal(old.isClosed, false);
  await ground.door[Symbol.asyncDispose]();
  await old.closed;
  await assert.rejects(Deno.connect({ hostname: "127.0.0.1", port: ground.door.port }));
  await ground[Symbol.asyncDispose]();
});

/** A server behind a door. */
function openGround(limits: Partial<DoorLimits> = {}) {
  const address = { hostname: "127.0.0.1", port: 0 };
  const door = new FrontDoor({ address, limits, logger: SILENT_LOGGER });
  const tellers = new Set<ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>>();
  const stream = () => {
    let teller: ReadableStreamDefaultController<Uint8Array<ArrayBuffer>>;
    return new ReadableStream({
      start: (controller) => void tellers.add(teller = controller),
      cancel: () => void tellers.delete(teller),
    });
  };
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request, { remoteAddr }) => {
      const visitor = door.visitor(remoteAddr.port);
      const { pathname } = new URL(request.url);
      if (pathname === "/echo") return new Response(request.body);
      return new Response(pathname === "/stream" ? stream() : visitor ?? "nobody");
    },
  );
  door.leadTo(server.addr.port);
  return {
    door,
    inner: server.addr.port,
    /** Says something on all streams. */
    tell() {
      for (const teller of tellers) teller.enqueue(new Uint8Array(20));
    },
    async [Symbol.asyncDispose]() {
      await door[Symbol.asyncDispose]();
      await server.shutdown();
    },
  };
}

/** Asks once on a connection of its own. */
async function ask(port: number, { from = "127.0.0.1" } = {}): Promise<string> {
  const caller = await Caller.open(port, { from });
  caller.say("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  await caller.closed;
  return caller.heard.split("\r\n\r\n")[1] ?? "";
}

/** One connection, from any address of loopback. */
class Caller {
  heard = "";
  isClosed = false;
  readonly closed: Promise<void>;
  readonly #socket: Socket;

  static async open(port: number, { from = "127.0.0.1", allowHalfOpen = false } = {}): Promise<Caller> {
    const socket = connect({ host: "127.0.0.1", port, localAddress: from, allowHalfOpen });
    const caller = new Caller(socket);
    // It may be over before this side notices that it began.
    await Promise.race([new Promise<void>((resolve) => socket.once("connect", resolve)), caller.closed]);
    return caller;
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (data: Uint8Array) => this.heard += new TextDecoder().decode(data));
    socket.on("error", () => {/* sent away: `closed` says so */});
    this.closed = new Promise((resolve) =>
      socket.once("close", () => {
        this.isClosed = true;
        resolve();
      })
    );
  }

  say(text: string): void {
    if (!this.#socket.destroyed) this.#socket.write(text);
  }

  close(): void {
    this.#socket.destroy();
  }
}
