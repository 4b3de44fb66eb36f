import assert from "node:assert/strict";
import { dirname } from "node:path";
import { GinnelError } from "../../../src/base/errors.ts";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { ControlSocket } from "../../../src/modes/shared/control_socket.ts";

function start(path: string, status: () => Promise<unknown> = () => Promise.resolve({ mode: "agent" })) {
  return ControlSocket.start({ path, status, logger: SILENT_LOGGER });
}

async function ask(path: string, target: string, init?: RequestInit): Promise<[number, unknown]> {
  using client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
  const response = await fetch(`http://localhost${target}`, { client, ...init });
  return [response.status, await response.json()];
}

Deno.test("the socket tells the status, only that, and only to its owner", async () => {
  const path = `${await Deno.makeTempDir()}/new/folder/node.sock`;
  await using _socket = await start(path);
  assert.deepEqual(await ask(path, "/status"), [200, { mode: "agent" }]);
  assert.equal((await ask(path, "/"))[0], 404);
  assert.equal((await ask(path, "/status", { method: "POST" }))[0], 405);
  assert.equal((await Deno.lstat(path)).mode! & 0o777, 0o600);
  assert.equal((await Deno.lstat(dirname(path))).mode! & 0o777, 0o700);
});

Deno.test("a status that cannot be told is an answer without details", async () => {
  const path = `${await Deno.makeTempDir()}/node.sock`;
  await using _socket = await start(path, () => Promise.reject(new Error("Inner details")));
  const [status, answer] = await ask(path, "/status");
  assert.equal(status, 500);
  assert.doesNotMatch(JSON.stringify(answer), /Inner details/);
});

Deno.test("a killed node's socket is taken over, a living one's is not, any other file is left alone", async () => {
  const folder = await Deno.makeTempDir();
  const path = `${folder}/node.sock`;
  const script = `Deno.listen({ transport: "unix", path: "${path}" }); Deno.kill(Deno.pid, "SIGKILL")`;
  await new Deno.Command(Deno.execPath(), { args: ["eval", script] }).output();
  assert.equal((await Deno.lstat(path)).isSocket, true);
  const isRefused = (error: unknown) => error instanceof GinnelError && error.code === "ERR_CONTROL_SOCKET";
  const socket = await start(path);
  await assert.rejects(start(path), isRefused);
  assert.equal((await ask(path, "/status"))[0], 200);
  await socket.close();
  await socket.close();
  await assert.rejects(Deno.lstat(path), Deno.errors.NotFound);

  await Deno.writeTextFile(path, "kept");
  await assert.rejects(start(path), isRefused);
  assert.equal(await Deno.readTextFile(path), "kept");
});
