/** `ginnel api`: what reaches the controller, and what a script learns of its answer. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { apiCommand } from "../../src/cli/api.ts";
import { makeCa, makeTls, serve } from "../io/controller/servers.ts";
import { startAuditGround } from "./audit_ground.ts";
import { Printed } from "./demo_folder.ts";

const CA = await makeCa();
const TLS = await makeTls(CA);

Deno.test("api sends its secret to nobody whom the CA does not vouch for", async () => {
  const heard: string[] = [];
  await using server = serve(await makeTls(await makeCa()), ({ headers }) => {
    heard.push(headers.get("authorization") ?? "");
    return new Response();
  });
  const [flag, named, ...rest] = await access(server.place.url);
  for (const place of [named!, server.place.url]) {
    const { code, err } = await run(["GET", "whoami", flag!, place, ...rest]);
    assert.equal(code, 1);
    assert.match(err, /Cannot reach a controller/);
  }
  assert.deepEqual(heard, []);
});

Deno.test("api needs only the URL of a controller, whatever its name", async () => {
  await using server = serve(await makeTls(CA, { name: "eu-west" }), () => Response.json({ here: true }));
  const [flag, , ...rest] = await access(server.place.url);
  const { code, out } = await run(["GET", "whoami", flag!, server.place.url, ...rest]);
  assert.deepEqual([code, JSON.parse(out)], [0, { here: true }]);
});

Deno.test("api does not use a token file that others can read", async () => {
  const flags = await access("https://127.0.0.1:1");
  await Deno.chmod(flags.at(-1)!, 0o644);
  const { code, err } = await run(["GET", "whoami", ...flags]);
  assert.equal(code, 2);
  assert.match(err, /lets other users/);
});

Deno.test("api asks a real controller, as who the token says, and tells success from refusal", async () => {
  await using ground = await startAuditGround(3);
  const ok = await run(["GET", "whoami", ...ground.access("viewer")]);
  assert.deepEqual([ok.code, JSON.parse(ok.out)], [0, { who: "token:viewer", role: "viewer", scopes: [] }]);
  const page = await run(["get", "/api/v1/audit?limit=1", ...ground.access("admin")]);
  assert.equal(JSON.parse(page.out).data[0].seq, 3);
  const refused = await run(["GET", "audit?limit=x", ...ground.access("admin")]);
  assert.equal(refused.code, 1);
  assert.match(refused.err, /400 .*limit/);
  assert.equal(JSON.parse(refused.out).status, 400);
});

Deno.test("api sends a body from the line, a file or standard input, and a condition", async () => {
  const heard: unknown[] = [];
  await using server = serve(TLS, async (request) => {
    const { method, headers, url } = request;
    heard.push([method, new URL(url).pathname, await request.json(), headers.get("if-match")]);
    return Response.json({ done: true }, { status: 201 });
  });
  const flags = await access(server.place.url);
  const file = join(await Deno.makeTempDir(), "body.json");
  await Deno.writeTextFile(file, `{"a":2}`);
  assert.equal((await run(["POST", "services", `{"a":1}`, ...flags])).code, 0);
  assert.equal((await run(["PUT", "/api/v1/services/x", `@${file}`, "--if-match", `"7"`, ...flags])).code, 0);
  assert.equal((await run(["PATCH", "services/x", "-", ...flags], `{"a":3}`)).code, 0);
  assert.deepEqual(heard, [
    ["POST", "/api/v1/services", { a: 1 }, null],
    ["PUT", "/api/v1/services/x", { a: 2 }, `"7"`],
    ["PATCH", "/api/v1/services/x", { a: 3 }, null],
  ]);
});

Deno.test("api waits as long as the controller asks for when it came too fast", async () => {
  let count = 0;
  await using server = serve(
    TLS,
    () =>
      ++count === 1
        ? new Response(null, { status: 429, headers: { "retry-after": "0" } })
        : Response.json({ count }),
  );
  assert.deepEqual(JSON.parse((await run(["GET", "x", ...await access(server.place.url)])).out), {
    count: 2,
  });
});

Deno.test("api refuses a command line that makes no sense, and says what is missing to ask", async () => {
  const wrong: readonly (readonly [readonly string[], number, RegExp])[] = [
    [[], 2, /Missing METHOD/],
    [["FETCH", "x"], 2, /Missing METHOD/],
    [["GET"], 2, /Missing PATH/],
    [["GET", "x", "{}", "y"], 2, /Unexpected argument/],
    [["POST", "x", "{"], 2, /not JSON/],
    [["POST", "x", "@/nowhere"], 2, /Cannot read \/nowhere/],
    [["GET", "x"], 1, /which controller/],
    [["GET", "x", "--controller", "http://127.0.0.1"], 1, /NAME=https/],
    [["GET", "x", "--controller", "https://127.0.0.1"], 1, /whom to trust/],
    [(await access("https://127.0.0.1:1")).slice(0, 4).toSpliced(0, 0, "GET", "x"), 1, /who asks/],
  ];
  for (const [args, code, says] of wrong) {
    const result = await run([...args]);
    assert.match(result.err, says);
    assert.equal(result.code, code, args.join(" "));
  }
});

async function access(url: string): Promise<string[]> {
  const folder = await Deno.makeTempDir();
  const [ca, token] = [join(folder, "ca.crt"), join(folder, "token")];
  await Deno.writeTextFile(ca, CA.certificatePem);
  await Deno.writeTextFile(token, "gnl_x_y\n", { mode: 0o600 });
  return ["--controller", `controller-1=${url}`, "--ca", ca, "--token-file", token];
}

async function run(args: string[], stdin = ""): Promise<{ code: number; out: string; err: string }> {
  const io = new Printed();
  const code = await apiCommand(args, io, () => Promise.resolve(stdin));
  return { code, out: io.out, err: io.err };
}
