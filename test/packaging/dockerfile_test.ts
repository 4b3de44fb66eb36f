/**
 * The Dockerfile, as far as it can be checked without a Docker engine: its form, what it copies, its user, and
 * its health check, which is run here against real listeners.
 */

import assert from "node:assert/strict";

const ROOT = new URL("../..", import.meta.url).pathname;

/** One instruction: `{word: "COPY", rest: "src src", stage: 0}`. */
interface Instruction {
  readonly word: string;
  readonly rest: string;
  readonly stage: number;
}

const KNOWN = new Set([
  ...[
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "RUN",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
  ],
]);

Deno.test("the Dockerfile has two stages of known instructions, and every shell step parses", async () => {
  const instructions = readDockerfile();
  for (const { word } of instructions) assert.ok(KNOWN.has(word), word);
  assert.deepEqual(instructions.filter(({ word }) => word === "FROM").map(({ rest }) => rest), [
    "--platform=$BUILDPLATFORM node:22-bookworm AS build",
    "debian:bookworm-slim",
  ]);
  const steps = instructions.filter(({ word }) => word === "RUN");
  assert.equal(steps.length, 3);
  for (const { rest } of steps) {
    const { success, stderr } = await new Deno.Command("sh", {
      args: ["-n", "-c", rest.replace(/^(--\S+ )+/, "")],
    }).output();
    assert.ok(success, `${rest}: ${new TextDecoder().decode(stderr)}`);
  }
});

Deno.test("the Dockerfile copies only what is there and what .dockerignore lets through", () => {
  const letThrough = readLines(".dockerignore").filter((line) => line.startsWith("!")).map((line) =>
    line.slice(1)
  );
  assert.ok(readLines(".dockerignore").includes("*"));
  const copied = readDockerfile().filter(({ word, stage }) => word === "COPY" && stage === 0)
    .flatMap(({ rest }) => rest.split(" ").slice(0, -1));
  assert.deepEqual(copied.toSorted(), letThrough.toSorted());
  for (const path of copied) Deno.statSync(`${ROOT}${path}`);
});

Deno.test("the image builds both architectures by compile.sh", () => {
  const build =
    readDockerfile().find(({ word, rest }) => word === "RUN" && rest.includes("compile.sh"))?.rest ?? "";
  assert.match(build, /amd64\) arch=x86_64 ;; arm64\) arch=aarch64 ;;/);
  assert.match(build, /mv "dist\/ginnel-linux-\$arch" \/ginnel/);
});

Deno.test("the image gives its program no capability that the container does not have", () => {
  const [step = "", ...others] = readDockerfile().filter(({ word, stage }) => stage === 1 && word === "RUN")
    .map(({ rest }) => rest);
  assert.deepEqual(others, []);
  // Permitted, not effective: with +ep the program could not even start without NET_ADMIN.
  assert.deepEqual(step.match(/cap_\w+\+\w+/g), ["cap_net_admin+p"]);
  for (const name of ["iproute2", "nftables"]) assert.ok(step.includes(name), name);
});

Deno.test("the image's program does not run as root, and the relay's ports are exposed", () => {
  const last = readDockerfile().filter(({ stage }) => stage === 1);
  const value = (word: string) =>
    last.filter((instruction) => instruction.word === word).map(({ rest }) => rest);
  assert.deepEqual(value("USER"), ["10001:10001"]);
  assert.deepEqual(value("EXPOSE"), ["4433/udp 4433/tcp 8080/tcp 8441/tcp"]);
  // What a controller keeps outlives the container, and is that user's alone.
  assert.deepEqual(value("VOLUME"), ["/var/lib/ginnel"]);
  assert.match(value("RUN").join(), /install -d -o 10001 -g 10001 -m 0700 \/var\/lib\/ginnel/);
  assert.deepEqual(value("ENTRYPOINT").map((text) => JSON.parse(text)), [["/usr/local/bin/ginnel"]]);
  assert.deepEqual(value("CMD").map((text) => JSON.parse(text)), [[
    "run",
    "--config",
    "/etc/ginnel/config.json",
  ]]);
});

Deno.test("the health check follows /health, and where no health port listens the process decides", async () => {
  const answers = { status: 200 };
  const server = Deno.serve({ hostname: "0.0.0.0", port: 0, onListen: () => {} }, (request) => {
    return new Response(null, { status: new URL(request.url).pathname === "/health" ? answers.status : 404 });
  });
  assert.equal(await healthCheck(server.addr.port), 0);
  answers.status = 503;
  assert.notEqual(await healthCheck(server.addr.port), 0);
  await server.shutdown();
  assert.equal(await healthCheck(server.addr.port), 0);
});

/** Runs the image's health check with another port in the place of 8080. */
async function healthCheck(port: number): Promise<number> {
  const rest = readDockerfile().find(({ word }) => word === "HEALTHCHECK")?.rest ?? "";
  const match = /^((?:--\S+ )+)CMD (\[.*\])$/.exec(rest);
  assert.deepEqual(match?.[1]?.trim().split(" "), [
    "--interval=30s",
    "--timeout=10s",
    "--start-period=5s",
    "--retries=3",
  ]);
  const [shell, ...args] = JSON.parse(match?.[2] ?? "[]") as string[];
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  const replaced = args.map((argument) => argument.replaceAll("8080", `${port}`).replaceAll("1F90", hex));
  assert.notDeepEqual(replaced, args);
  const { code } = await new Deno.Command(shell ?? "", { args: replaced, stderr: "null" }).output();
  return code;
}

function readDockerfile(): Instruction[] {
  const logical = readLines("Dockerfile").filter((line) => !line.startsWith("#")).join("\n").replaceAll(
    /\\\n\s*/g,
    "",
  );
  let stage = -1;
  return logical.split("\n").filter((line) => line.trim() !== "").map((line) => {
    const [word = "", ...rest] = line.split(" ");
    if (word === "FROM") stage += 1;
    return { word, rest: rest.join(" "), stage };
  });
}

function readLines(name: string): string[] {
  return Deno.readTextFileSync(`${ROOT}${name}`).split("\n");
}
