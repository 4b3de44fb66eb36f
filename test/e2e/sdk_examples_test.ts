/** The examples in config/examples run as they are: dark in the network, and on a port only where that was asked for. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { SdkNetwork } from "../sdk/sdk_network.ts";
import { PROGRAM } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/free_port.ts";
import { spiffeId } from "../support/network.ts";
import { socketsOf } from "../support/process_sockets.ts";
import { ManagedProcess } from "../support/processes.ts";
import { needsTool, testNeeding } from "../support/require_tool.ts";

const UVICORN = needsTool("uvicorn");
const SS = needsTool("ss");
const EXAMPLES = fileURLToPath(new URL("../../config/examples/", import.meta.url));
const RUN_ASGI = `${EXAMPLES}asgi/run.sh`;

testNeeding(
  [SS],
  "dark_service.ts: HTTP and WebSocket by name, no listening port, who calls is known",
  async () => {
    await using ground = await SdkNetwork.start({ services: [{ name: "rtmx-sync" }] });
    await using service = ManagedProcess.spawn(
      [Deno.execPath(), "run", "--allow-all", "--unstable-net", "--quiet", `${EXAMPLES}dark_service.ts`],
      {
        env: {
          GINNEL_IDENTITY_FILE: await ground.network.issue("connector", "rtmx-host"),
          ...relaysOf(ground),
        },
      },
    );
    await service.waitForLine(/offers rtmx-sync/);
    assert.deepEqual(await listeners(service.pid), []);
    const alice = await ground.join("agent", "alice");
    const health = await alice.fetch("http://rtmx-sync.ginnel.internal/health");
    assert.deepEqual([health.status, await health.json()], [200, { status: "ok" }]);
    const who = await alice.fetch("http://rtmx-sync.ginnel.internal/whoami");
    assert.deepEqual(await who.json(), { caller: spiffeId("agent", "alice") });
    assert.equal(
      await say(alice.webSocket("ws://rtmx-sync.ginnel.internal/"), "hello"),
      `${spiffeId("agent", "alice")}: hello`,
    );
    const { code } = await service.stop();
    assert.equal(code, 0);
  },
);

testNeeding(
  [UVICORN, SS],
  "asgi/run.sh in ginnel mode: reached by name, no listening port in any of its processes",
  async () => {
    await using ground = await SdkNetwork.start({ services: [{ name: "claude-api" }] });
    const port = freePort();
    await using run = ManagedProcess.spawn([RUN_ASGI], {
      env: {
        NETWORKING_MODE: "ginnel",
        PORT: String(port),
        GINNEL: PROGRAM.join(" "),
        UVICORN: UVICORN.path,
        GINNEL_IDENTITY_FILE: await ground.network.issue("connector", "claude-host"),
        ...relaysOf(ground),
      },
    });
    await run.waitForLine(/"service_bound".*"claude-api"/, { timeoutMs: 30_000 });
    const family = await descendants(run.pid);
    assert.ok(family.length >= 3, `run.sh, uvicorn and ginnel: ${family}`);
    for (const pid of family) assert.deepEqual(await listeners(pid), []);
    await assert.rejects(fetch(`http://127.0.0.1:${port}/health`), TypeError);
    const alice = await ground.join("agent", "alice");
    const base = "http://claude-api.ginnel.internal";
    assert.deepEqual(await (await alice.fetch(`${base}/health`)).json(), { status: "healthy" });
    for (let count = 0; count < 20; count++) {
      const body = `${count}`.repeat(1_000 * count);
      const response = await alice.fetch(`${base}/echo`, { method: "POST", body });
      assert.deepEqual(await response.json(), { method: "POST", body }, "no response is lost");
    }
    assert.equal(await say(alice.webSocket("ws://claude-api.ginnel.internal/"), "hello"), "echo hello");
    await run.stop();
    await eventually(() => family.every((pid) => !isRunning(pid)));
  },
);

testNeeding(
  [UVICORN],
  "asgi/run.sh in http mode, the default: answers on its port, needs no identity",
  async () => {
    const port = freePort();
    await using run = ManagedProcess.spawn([RUN_ASGI], {
      env: { PORT: String(port), UVICORN: UVICORN.path },
    });
    await run.waitForLine(/Uvicorn running/);
    const response = await fetch(`http://localhost:${port}/health`);
    assert.deepEqual([response.status, await response.json()], [200, { status: "healthy" }]);
  },
);

for (
  const [what, env, says] of [
    ["no identity", {}, /needs GINNEL_IDENTITY_FILE/],
    [
      "an identity that is not there",
      { GINNEL_IDENTITY_FILE: "/nonexistent/identity.json" },
      /identity\.json does not exist/,
    ],
    ["a mode that is none", { NETWORKING_MODE: "both" }, /NETWORKING_MODE=both is neither/],
    ["a bad relay", { GINNEL_IDENTITY_FILE: RUN_ASGI, GINNEL_RELAYS: `a","b` }, /cannot read a"/],
    [
      "a bad name",
      { GINNEL_IDENTITY_FILE: RUN_ASGI, GINNEL_SERVICE_NAME: `a"b` },
      /not the name of a service/,
    ],
  ] as const
) {
  Deno.test(`asgi/run.sh with ${what} exits 1 and says so`, async () => {
    const { code, stderr } = await new Deno.Command(RUN_ASGI, {
      env: { NETWORKING_MODE: "ginnel", UVICORN: "false", ...env },
      stdout: "null",
      stderr: "piped",
    }).output();
    assert.equal(code, 1);
    assert.match(new TextDecoder().decode(stderr), says);
  });
}

function relaysOf({ relay }: SdkNetwork): { GINNEL_RELAYS: string } {
  return { GINNEL_RELAYS: `${relay.name}=127.0.0.1:${relay.port}` };
}

/** What takes connections in a process, as `ss` and the kernel's own tables say; unix sockets are no ports. */
async function listeners(pid: number): Promise<unknown[]> {
  const { stdout } = await new Deno.Command(SS.path, { args: ["-H", "-l", "-t", "-n", "-p"] }).output();
  const lines = new TextDecoder().decode(stdout).split("\n").filter((line) => line.includes(`pid=${pid},`));
  return [...lines, ...socketsOf(pid).filter(({ kind, listens }) => kind === "tcp" && listens)];
}

async function descendants(pid: number): Promise<number[]> {
  const text = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`);
  const children = text.trim().split(" ").filter(Boolean).map(Number);
  return [pid, ...(await Promise.all(children.map(descendants))).flat()];
}

function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(Deno.readTextFileSync(`/proc/${pid}/status`));
  } catch {
    // The process is gone.
    return false;
  }
}

/** Says one thing and returns what comes back. */
async function say(socket: WebSocket, text: string): Promise<string> {
  try {
    return await new Promise((resolve, reject) => {
      socket.onopen = () => socket.send(text);
      socket.onmessage = ({ data }) => resolve(data);
      socket.onerror = (event) => reject(new Error((event as ErrorEvent).message));
    });
  } finally {
    const closed = new Promise((resolve) => socket.onclose = resolve);
    socket.close();
    await closed;
  }
}
