/** Headless Chromium opens WebTransport sessions on the relay and on our listener. */

import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { withSignal } from "../../src/base/async.ts";
import { loadIdentity } from "../../src/identity/identity_file.ts";
import { issueCertificate } from "../../src/identity/pki.ts";
import { ManagedProcess } from "../support/processes.ts";
import { needsTool, testNeeding } from "../support/require_tool.ts";
import { testNetwork } from "../support/test_network.ts";
import { CLOSING_PATH, EchoListener } from "./echo_listener.ts";
import { RelayProcess } from "./relay_process.ts";

const CHROMIUM = needsTool("chromium");
const FLAGS = [
  "--headless=new",
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const PAGE_TIMEOUT_MS = 60_000;

/** What the page is to do; see `chromium_page.js`. */
interface Task {
  readonly scenario: "flow" | "refused" | "echo" | "closing";
  readonly url: string;
  readonly certificateHash: readonly number[];
  readonly service?: string;
  readonly proof?: string;
}

testNeeding([CHROMIUM], "Chromium and a relay", async (t) => {
  await using relay = await RelayProcess.start();

  await t.step(
    "a page proves itself to the relay and reaches a service, streams ending cleanly",
    async () => {
      const seen = await browse({
        ...await sessionOf(relay),
        scenario: "flow",
        service: "echo",
        proof: await relay.proof(),
      });
      assert.deepEqual(seen, { admitted: 200, opened: 200, intact: true });
    },
  );

  await t.step("a page without a good proof is shown the door", async () => {
    const seen = await browse({ ...await sessionOf(relay), scenario: "refused" });
    assert.deepEqual(seen, { closeCode: 401, reason: "proof of identity refused" });
  });
});

testNeeding(
  [CHROMIUM],
  "Chromium: our listener echoes streams and datagrams, and sees the session's close code",
  async () => {
    await using listener = await startListener();
    const seen = await browse({
      scenario: "echo",
      url: `https://127.0.0.1:${listener.value.port}/echo`,
      certificateHash: listener.hash,
    });
    assert.deepEqual(seen, { intact: true, serverSaid: "one way", datagram: "ping" });
    assert.deepEqual(await listener.value.sessionEnd(), { code: 17, reason: "done" });
  },
);

testNeeding(
  [CHROMIUM],
  "Chromium: a page sees the code and reason with which our listener closes",
  async () => {
    await using listener = await startListener();
    const seen = await browse({
      scenario: "closing",
      url: `https://127.0.0.1:${listener.value.port}${CLOSING_PATH}`,
      certificateHash: listener.hash,
    });
    assert.deepEqual(seen, { closeCode: 4711, reason: "enough" });
  },
);

/** Serves the page, opens it in a fresh browser, and returns what it posts. */
async function browse(task: Task): Promise<unknown> {
  const { promise: result, resolve } = Promise.withResolvers<unknown>();
  const script = await Deno.readTextFile(new URL("./chromium_page.js", import.meta.url));
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    switch (new URL(request.url).pathname) {
      case "/":
        return new Response('<!doctype html><script type="module" src="page.js"></script>', {
          headers: { "content-type": "text/html" },
        });
      case "/page.js":
        return new Response(script, { headers: { "content-type": "text/javascript" } });
      case "/task":
        return Response.json(task);
      case "/result":
        resolve(await request.json());
        return new Response(null, { status: 204 });
      default:
        return new Response(null, { status: 404 });
    }
  });
  const profile = await Deno.makeTempDir({ prefix: "ginnel-chromium-" });
  const browser = ManagedProcess.spawn([
    CHROMIUM.path,
    ...FLAGS,
    `--user-data-dir=${profile}`,
    `http://127.0.0.1:${server.addr.port}/`,
  ], { name: "chromium" });
  try {
    return await withSignal(result, AbortSignal.timeout(PAGE_TIMEOUT_MS)).catch((cause) => {
      throw new Error(`The page posted nothing:\n${browser.lines.join("\n")}`, { cause });
    });
  } finally {
    await browser.stop();
    await Deno.remove(profile, { recursive: true });
  }
}

async function sessionOf(relay: RelayProcess): Promise<{ url: string; certificateHash: number[] }> {
  const { chainDer } = await loadIdentity(relay.identityFile);
  return {
    url: `https://127.0.0.1:${relay.port}/.well-known/ginnel/agent`,
    certificateHash: await hashOf(chainDer[0]!),
  };
}

async function startListener(): Promise<AsyncDisposable & { value: EchoListener; hash: number[] }> {
  const network = await testNetwork();
  const { certificatePem, privateKeyPem } = await issueCertificate(network.ca, {
    kind: "relay",
    name: "relay-1",
    now: Date.now(),
    days: 10,
  });
  const value = await EchoListener.start({ cert: certificatePem, key: privateKeyPem! });
  return {
    value,
    hash: await hashOf(leafOf(certificatePem)),
    [Symbol.asyncDispose]: () => value[Symbol.asyncDispose](),
  };
}

/** The first certificate of a PEM chain, in DER. */
function leafOf(pem: string): Uint8Array {
  return new X509Certificate(pem).raw;
}

async function hashOf(der: Uint8Array): Promise<number[]> {
  return [...new Uint8Array(await crypto.subtle.digest("SHA-256", Uint8Array.from(der)))];
}
