/** A client on quic-go and webtransport-go (`go/`) talks to the relay and to our listener. */

import assert from "node:assert/strict";
import { issueCertificate } from "../../src/identity/pki.ts";
import { runCommand } from "../support/processes.ts";
import { needsTool, testNeeding } from "../support/require_tool.ts";
import { testNetwork } from "../support/test_network.ts";
import { EchoListener } from "./echo_listener.ts";
import { RelayProcess } from "./relay_process.ts";

const GO = needsTool("go");
const SESSION_CODE = 17;

interface ClientOptions {
  readonly port: number;
  readonly rootFile: string;
  readonly proof?: string;
}

testNeeding([GO], "quic-go, webtransport-go and a relay", async (t) => {
  await using relay = await RelayProcess.start();

  await t.step("a relay offers extended CONNECT and datagrams, and refuses who brings no proof", async () => {
    const seen = await client(place(relay), ["request", "GET", "/.well-known/ginnel/view"]);
    assert.equal(seen.status, 401);
    assert.equal(seen.authenticate, "Bearer");
    assert.match(`${seen.proxyStatus}`, /^relay-1; error=http_request_denied/);
    assert.equal(seen.extendedConnect, true);
    assert.equal(seen.datagrams, true);
  });

  await t.step("an admitted client gets 405 and 404 for what the relay does not serve", async () => {
    const deleted = await client({ ...place(relay), proof: await relay.proof() }, [
      "request",
      "DELETE",
      "/.well-known/ginnel/view",
    ]);
    assert.equal(deleted.status, 405);
    const unknown = await client({ ...place(relay), proof: await relay.proof() }, [
      "request",
      "GET",
      "/nothing",
    ]);
    assert.equal(unknown.status, 404);
  });

  await t.step("a proof works once", async () => {
    const proof = await relay.proof();
    assert.equal((await client({ ...place(relay), proof }, ["view"])).status, 200);
    assert.equal(
      (await client({ ...place(relay), proof }, ["request", "GET", "/.well-known/ginnel/view"])).status,
      401,
    );
  });

  await t.step("the stream of views starts with the observed address and a signed view", async () => {
    const seen = await client({ ...place(relay), proof: await relay.proof() }, ["view"]);
    assert.deepEqual(seen, { status: 200, contentType: "application/x-ndjson", types: ["observed", "view"] });
  });

  await t.step("connect-tcp carries a megabyte there and back in capsules, with its clean end", async () => {
    const seen = await client({ ...place(relay), proof: await relay.proof() }, ["connect-tcp", "echo"]);
    assert.deepEqual(seen, { status: 200, capsuleProtocol: "?1", bytes: 1 << 20, intact: true, final: true });
  });

  await t.step("connect-tcp is refused where the service demands an end-to-end session", async () => {
    const before = relay.upstreamBytes;
    const seen = await client({ ...place(relay), proof: await relay.proof() }, ["connect-tcp", "sealed"]);
    assert.equal(seen.status, 403);
    assert.match(`${seen.proxyStatus}`, /^relay-1; error=/);
    assert.equal(relay.upstreamBytes, before);
  });

  await t.step("classic CONNECT carries a megabyte there and back, with half-close", async () => {
    const seen = await client({ ...place(relay), proof: await relay.proof() }, ["connect", "echo"]);
    assert.deepEqual(seen, { status: 200, bytes: 1 << 20, intact: true });
  });

  await t.step(
    "webtransport-go: a session proves itself on its first stream and opens a flow on the next",
    async () => {
      const seen = await client(place(relay), ["webtransport-flow", "echo", await relay.proof()]);
      assert.deepEqual(seen, { status: 200, admitted: 200, opened: 200, intact: true });
    },
  );
});

testNeeding(
  [GO],
  "webtransport-go: our listener echoes streams and datagrams and sees the session's close code",
  async () => {
    const network = await testNetwork();
    const { certificatePem, privateKeyPem } = await issueCertificate(network.ca, {
      kind: "relay",
      name: "relay-1",
      now: Date.now(),
      days: 1,
    });
    const rootFile = await Deno.makeTempFile();
    try {
      await Deno.writeTextFile(rootFile, network.ca.certificatePem);
      await using listener = await EchoListener.start({ cert: certificatePem, key: privateKeyPem! });
      const seen = await client({ port: listener.port, rootFile }, [
        "webtransport-echo",
        "/echo",
        `${SESSION_CODE}`,
      ]);
      assert.deepEqual(seen, { status: 200, intact: true, serverSaid: "one way", datagram: "ping" });
      assert.deepEqual(await listener.sessionEnd(), { code: SESSION_CODE, reason: "done" });
    } finally {
      await Deno.remove(rootFile);
    }
  },
);

function place({ port, rootFile }: RelayProcess): ClientOptions {
  return { port, rootFile };
}

/** Runs one scenario of the client and returns what it saw. */
async function client(options: ClientOptions, scenario: readonly string[]): Promise<Record<string, unknown>> {
  const { port, rootFile, proof } = options;
  const binary = await buildClient();
  const flags = [
    "-address",
    `127.0.0.1:${port}`,
    "-root",
    rootFile,
    ...(proof === undefined ? [] : ["-proof", proof]),
  ];
  return JSON.parse(await runCommand([binary, ...flags, ...scenario]));
}

/** Builds the client; Go's own cache makes every time but the first quick. */
async function buildClient(): Promise<string> {
  const folder = new URL("./go/", import.meta.url).pathname;
  const tools = new URL("../../.cache/tools/", import.meta.url).pathname;
  await Deno.mkdir(tools, { recursive: true });
  const binary = `${tools}interop-client`;
  await runCommand([GO.path, "build", "-mod=readonly", "-o", binary, "."], { cwd: folder });
  return binary;
}
