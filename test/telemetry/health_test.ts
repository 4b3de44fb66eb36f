import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { VERSION } from "../../src/base/version.ts";
import { HealthServer } from "../../src/telemetry/health.ts";

const LOOPBACK = { kind: "tcp", hostname: "127.0.0.1", port: 0 } as const;

function urlOf(server: HealthServer): string {
  assert.ok(server.address.kind === "tcp");
  return `http://127.0.0.1:${server.address.port}`;
}

async function ask(url: string, init?: RequestInit): Promise<[number, Record<string, unknown>]> {
  const response = await fetch(url, init);
  return [response.status, await response.json()];
}

Deno.test("/health and its aliases answer 200 with version and uptime from the start", async () => {
  let now = 1_000;
  await using server = await HealthServer.start({ address: LOOPBACK, logger: SILENT_LOGGER, now: () => now });
  now += 1_500;
  for (const path of ["/health", "/healthz", "/health/live", "/health?x"]) {
    assert.deepEqual(await ask(urlOf(server) + path), [200, {
      status: "ok",
      version: VERSION,
      uptimeSeconds: 1.5,
    }]);
  }
});

Deno.test("/ready and its aliases answer 503 with the reason until the node is ready", async () => {
  await using server = await HealthServer.start({ address: LOOPBACK, logger: SILENT_LOGGER });
  const states: [() => void, number, string, string?][] = [
    [() => {}, 503, "not ready", "starting"],
    [() => server.setReady(), 200, "ready"],
    [() => server.setUnready("draining"), 503, "not ready", "draining"],
  ];
  for (const [change, code, status, reason] of states) {
    change();
    for (const path of ["/ready", "/readyz", "/health/ready"]) {
      const [found, content] = await ask(urlOf(server) + path);
      assert.deepEqual([found, content.status, content.reason], [code, status, reason]);
    }
  }
});

Deno.test("/ready says degraded, with 200, when something is wrong although the node works", async () => {
  const degraded = () => ["audit records cannot be written"];
  await using server = await HealthServer.start({ address: LOOPBACK, logger: SILENT_LOGGER, degraded });
  server.setReady();
  const [code, content] = await ask(`${urlOf(server)}/ready`);
  assert.deepEqual([code, content.status, content.degraded], [200, "degraded", degraded()]);
});

Deno.test("other pages are 404, other methods 405", async () => {
  await using server = await HealthServer.start({ address: LOOPBACK, logger: SILENT_LOGGER });
  for (const path of ["/", "/healthy", "/metrics", "/health/", "//health"]) {
    assert.equal((await ask(urlOf(server) + path))[0], 404);
  }
  const post = await fetch(`${urlOf(server)}/health`, { method: "POST", body: "x" });
  await post.body?.cancel();
  assert.deepEqual([post.status, post.headers.get("allow")], [405, "GET, HEAD"]);
  const head = await fetch(`${urlOf(server)}/health`, { method: "HEAD" });
  assert.deepEqual([head.status, await head.text()], [200, ""]);
});

Deno.test("a unix socket works, is not everyone's, and replaces the one a killed process left", async () => {
  const path = `${await Deno.makeTempDir()}/health`;
  const listener = Deno.listen({ transport: "unix", path: `${path}-old` });
  await Deno.rename(`${path}-old`, path);
  listener.close();
  assert.ok((await Deno.lstat(path)).isSocket);
  const address = { kind: "unix", path } as const;
  await using server = await HealthServer.start({ address, logger: SILENT_LOGGER });
  assert.deepEqual(server.address, address);
  assert.equal((await Deno.stat(path)).mode! & 0o777, 0o660);
  using client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
  const response = await fetch("http://localhost/health", { client });
  assert.equal((await response.json()).status, "ok");
  await assert.rejects(HealthServer.start({ address, logger: SILENT_LOGGER }), { code: "ERR_LISTEN_IN_USE" });
});

Deno.test("a taken address is named with a hint", async () => {
  await using server = await HealthServer.start({ address: LOOPBACK, logger: SILENT_LOGGER });
  await assert.rejects(HealthServer.start({ address: server.address, logger: SILENT_LOGGER }), {
    code: "ERR_LISTEN_IN_USE",
    hint: 'Change "health" in the config file',
  });
});

Deno.test("a path that is no socket is left alone", async () => {
  const path = await Deno.makeTempFile();
  await Deno.writeTextFile(path, "precious");
  await assert.rejects(HealthServer.start({ address: { kind: "unix", path }, logger: SILENT_LOGGER }), {
    code: "ERR_LISTEN_IN_USE",
  });
  assert.equal(await Deno.readTextFile(path), "precious");
});
