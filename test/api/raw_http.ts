/** Speaks HTTP/1.1 as no honest client does: whatever head, and bodies that do not end. */

/** What to send. */
export interface RawRequest {
  /** Head and perhaps the start of a body, as it goes on the wire. */
  readonly head: string;
  /** Chunks of 64 KiB to send after it, unless the answer comes first. */
  readonly chunks: number;
  /** False: the answer's head is enough. */
  readonly expectEnd?: boolean;
}

const CHUNK = 64 * 1024;

/** Sends and returns what came back, and how much the server let us send. */
export async function talkRaw(
  port: number,
  { head, chunks }: RawRequest,
): Promise<{ readonly text: string; readonly sent: number }> {
  const connection = await Deno.connect({ hostname: "127.0.0.1", port });
  let isAnswered = false;
  const answer = readAnswer(connection).finally(() => isAnswered = true);
  let sent = 0;
  try {
    await writeAll(connection, new TextEncoder().encode(head));
    const chunk = new TextEncoder().encode(`${CHUNK.toString(16)}\r\n${"x".repeat(CHUNK)}\r\n`);
    for (let i = 0; i < chunks && !isAnswered; i++) {
      await writeAll(connection, chunk);
      sent += CHUNK;
    }
  } catch (error) {
    // The server has hung up: what it said is in the answer.
    if (!(error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.ConnectionReset)) {
      throw error;
    }
  }
  try {
    return { text: await answer, sent };
  } finally {
    connection.close();
  }
}

async function readAnswer(connection: Deno.TcpConn): Promise<string> {
  const buffer = new Uint8Array(CHUNK);
  let text = "";
  for (;;) {
    const read = await connection.read(buffer).catch((error) => {
      if (error instanceof Deno.errors.ConnectionReset) return null;
      throw error;
    });
    if (read === null) return text;
    text += new TextDecoder().decode(buffer.subarray(0, read));
    const [head, body] = text.split("\r\n\r\n", 2);
    const length = /content-length: *([0-9]+)/i.exec(head!)?.[1];
    if (body !== undefined && (length === undefined || body.length >= Number(length))) return text;
  }
}

async function writeAll(connection: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let offset = 0; offset < bytes.length;) offset += await connection.write(bytes.subarray(offset));
}
