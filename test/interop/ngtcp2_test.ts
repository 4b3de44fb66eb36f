/** Debian's ngtcp2 client talks to the relay and to our listener. */

import assert from "node:assert/strict";
import { issueCertificate } from "../../src/identity/pki.ts";
import { runCommand } from "../support/processes.ts";
import { needsTool, testNeeding } from "../support/require_tool.ts";
import { testNetwork } from "../support/test_network.ts";
import { EchoListener, PAGE } from "./echo_listener.ts";
import { RelayProcess } from "./relay_process.ts";

const NGTCP2 = needsTool("gtlsclient", { install: "apt-get install -y ngtcp2-client" });
const URI = "https://relay-1.relay.ginnel.internal/.well-known/ginnel/view";

testNeeding([NGTCP2], "ngtcp2's client and a relay", async (t) => {
  await using relay = await RelayProcess.start();

  await t.step("a relay answers a stranger's GET with 401 and ends the stream", async () => {
    const log = await run(relay.port, [], [URI]);
    assert.deepEqual(statuses(log), ["401"]);
    assert.match(log, /\[www-authenticate: Bearer\]/);
    assert.match(log, /\[proxy-status: relay-1; error=http_request_denied/);
    assert.match(log, /rx .*STREAM\(0x0[89a-f]\) id=0x0 fin=1/);
    assert.match(log, /HTTP stream 0 closed with error code 256/);
  });

  await t.step("a relay answers several requests of one connection", async () => {
    assert.deepEqual(statuses(await run(relay.port, ["--nstreams=4"], [URI])), ["401", "401", "401", "401"]);
  });

  await t.step("a request with a malformed method is refused and the relay goes on", async () => {
    const log = await run(relay.port, ["--http-method=BAD METHOD", "--timeout=3s"], [URI]);
    assert.doesNotMatch(log, /\[:status: 2/);
    assert.deepEqual(statuses(await run(relay.port, [], [URI])), ["401"]);
    assert.equal(relay.relay.running, true);
  });

  await t.step("a connection survives a key update and a change of the client's address", async () => {
    const updated = await run(relay.port, ["--key-update=20ms", "--delay-stream=200ms"], [URI]);
    assert.match(updated, /key update confirmed/);
    assert.deepEqual(statuses(updated), ["401"]);
    const moved = await run(relay.port, [
      "--change-local-addr=20ms",
      "--nat-rebinding",
      "--delay-stream=200ms",
    ], [URI]);
    assert.match(moved, /PATH_RESPONSE/);
    assert.deepEqual(statuses(moved), ["401"]);
  });
});

testNeeding([NGTCP2], "ngtcp2: our listener serves a page of many packets, whole", async () => {
  const network = await testNetwork();
  const { certificatePem, privateKeyPem } = await issueCertificate(network.ca, {
    kind: "relay",
    name: "relay-1",
    now: Date.now(),
    days: 1,
  });
  await using listener = await EchoListener.start({ cert: certificatePem, key: privateKeyPem! });
  const folder = await Deno.makeTempDir();
  try {
    const log = await run(listener.port, [`--download=${folder}`], [
      "https://relay-1.relay.ginnel.internal/page",
    ]);
    assert.deepEqual(statuses(log), ["200"]);
    assert.deepEqual(await Deno.readFile(`${folder}/page`), PAGE);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

/** Runs the client against loopback and returns its log. */
function run(port: number, options: readonly string[], uris: readonly string[]): Promise<string> {
  const fixed = ["--no-quic-dump", "--exit-on-all-streams-close", "--handshake-timeout=10s"];
  // The log goes to standard error.
  const script = 'exec "$@" 2>&1';
  return runCommand([
    "sh",
    "-c",
    script,
    "sh",
    NGTCP2.path,
    ...fixed,
    ...options,
    "127.0.0.1",
    `${port}`,
    ...uris,
  ]);
}

function statuses(log: string): string[] {
  return [...log.matchAll(/\[:status: (\d+)\]/g)].map((match) => match[1]!);
}
