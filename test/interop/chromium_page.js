/**
 * What headless Chromium runs: asks its server for the session's address and the scenario's name, opens a WebTransport
 * session, and posts back what it saw.
 */

const PAYLOAD_SIZE = 256 * 1024;
const DATAGRAM_TRIES = 50;

const SCENARIOS = { flow, refused, echo, closing };

const task = await (await fetch("task")).json();
const seen = await SCENARIOS[task.scenario](task).catch((error) => ({ failed: `${error}` }));
await fetch("result", { method: "POST", body: JSON.stringify(seen) });

/** The relay: proof on the first stream, a flow to a service on the next. */
async function flow({ proof, service }) {
  const session = await open();
  const admitted = await hello(session, proof);
  const stream = await session.createBidirectionalStream();
  const io = messages(stream);
  await io.send({ type: "dial", service });
  const opened = await io.receive();
  const sent = payload();
  const writing = io.write(sent).then(() => io.end());
  const back = await io.rest();
  await writing;
  session.close({ closeCode: 17, reason: "done" });
  return { admitted: admitted.status, opened: opened.status, intact: same(sent, back) };
}

/** The relay: a proof that is none. */
async function refused() {
  const session = await open();
  const answer = await hello(session, "not a proof").catch(() => undefined);
  const { closeCode, reason } = await session.closed;
  return { answer, closeCode, reason };
}

/** The echo listener: streams both ways with their ends, datagrams, and a close of ours. */
async function echo() {
  const session = await open();
  const sent = payload();
  const io = messages(await session.createBidirectionalStream());
  const writing = io.write(sent).then(() => io.end());
  const back = await io.rest();
  await writing;
  const oneWay = (await session.createUnidirectionalStream()).getWriter();
  await oneWay.write(new TextEncoder().encode("one way"));
  await oneWay.close();
  const { value: incoming } = await session.incomingBidirectionalStreams.getReader().read();
  const serverSaid = new TextDecoder().decode(await messages(incoming).rest());
  const datagram = await exchangeDatagram(session);
  session.close({ closeCode: 17, reason: "done" });
  await session.closed;
  return { intact: same(sent, back), serverSaid, datagram };
}

/** The echo listener closes the session by itself. */
async function closing() {
  const session = await open();
  const { closeCode, reason } = await session.closed;
  return { closeCode, reason };
}

async function open() {
  const value = Uint8Array.from(task.certificateHash);
  const session = new WebTransport(task.url, { serverCertificateHashes: [{ algorithm: "sha-256", value }] });
  await session.ready;
  return session;
}

async function hello(session, proof) {
  const io = messages(await session.createBidirectionalStream());
  await io.send({ type: "hello", proof });
  return await io.receive();
}

/** Datagrams may be lost: repeats until one returns. */
async function exchangeDatagram(session) {
  const answer = session.datagrams.readable.getReader().read();
  const writer = (session.datagrams.createWritable?.() ?? session.datagrams.writable).getWriter();
  for (let attempt = 0; attempt < DATAGRAM_TRIES; attempt++) {
    await writer.write(new TextEncoder().encode("ping"));
    const got = await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, 100))]);
    if (got) return new TextDecoder().decode(got.value);
  }
  throw new Error("no datagram came back");
}

/** The relay's framing on a stream (a varint length, then JSON), and raw bytes behind it. */
function messages(stream) {
  const writer = stream.writable.getWriter();
  const reader = stream.readable.getReader();
  let held = new Uint8Array();
  const more = async () => {
    const { done, value } = await reader.read();
    if (done) return false;
    held = joined([held, value]);
    return true;
  };
  return {
    write: (bytes) => writer.write(bytes),
    end: () => writer.close(),
    send: (message) => {
      const text = new TextEncoder().encode(JSON.stringify(message));
      return writer.write(joined([Uint8Array.of(0x80, 0, text.length >> 8, text.length & 0xff), text]));
    },
    receive: async () => {
      for (;;) {
        const [size, length] = readLength(held);
        if (size > 0 && held.length >= size + length) {
          const text = new TextDecoder().decode(held.subarray(size, size + length));
          held = held.slice(size + length);
          return JSON.parse(text);
        }
        if (!await more()) throw new Error("the stream ended within a message");
      }
    },
    rest: async () => {
      const parts = [held];
      for (let next = await reader.read(); !next.done; next = await reader.read()) parts.push(next.value);
      return joined(parts);
    },
  };
}

/** Bytes of the varint and its value; sizes of one, two and four bytes are all a message can have. */
function readLength(bytes) {
  if (bytes.length === 0) return [0, 0];
  const size = 1 << (bytes[0] >> 6);
  if (bytes.length < size) return [0, 0];
  let value = bytes[0] & 0x3f;
  for (let i = 1; i < size; i++) value = value * 256 + bytes[i];
  return [size, value];
}

function payload() {
  return Uint8Array.from({ length: PAYLOAD_SIZE }, (_, index) => (index * 31 + (index >> 8)) & 0xff);
}

function same(a, b) {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

function joined(parts) {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}
