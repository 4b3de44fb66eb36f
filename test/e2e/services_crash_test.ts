/** Agents that are killed, and agents side by side: nobody's traces are in anybody's way. */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import type { ManagedProcess } from "../support/processes.ts";
import { needsRoot, needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { dig, statusOf, untilNamed } from "../support/service_commands.ts";
import { ServiceGround } from "../support/service_ground.ts";
import { UPSTREAM_PORTS } from "../support/service_upstreams.ts";

const NEEDS = [needsRoot(), needsTun(), needsTool("dig"), needsTool("nft")];
/** Everything of the kernel and of the resolver that an agent could leave behind. */
const PICTURE = "ip addr show; ip rule show; ip -6 rule show; ip route show table all; " +
  "ip -6 route show table all; nft list ruleset; cat /etc/resolv.conf";
const host = "agent1";

testNeeding(NEEDS, "what a killed agent leaves, and agents side by side", async (t) => {
  await using ground = await ServiceGround.create();
  const addresses: Record<string, readonly string[]> = {};
  for (const name of ["echo", "other"]) {
    const { json } = await ground.api("GET", `/services/${await ground.service({ name })}`);
    const { ipv4, ipv6 } = (json as { virtualAddresses: Record<"ipv4" | "ipv6", string> }).virtualAddresses;
    addresses[name] = [ipv4, ipv6];
  }
  await ground.allow("Bind");
  await ground.allow("Dial", ["@agent-1"], ["@echo"]);
  await ground.allow("Dial", ["@bob"], ["@other"]);
  const upstreams = ground.spawn("conn1", script("service_upstreams.ts"));
  await upstreams.waitForLine(/^ready$/);
  const upstream = `tcp://127.0.0.1:${UPSTREAM_PORTS.echo}`;
  await ground.startConnector("conn1", {
    services: Object.keys(addresses).map((name) => ({ name, upstream })),
  });
  const picture = async () => {
    const text = await ground.run(host, ["sh", "-ec", PICTURE]);
    // Link-local addresses come by themselves, a while after the link.
    return text.split("\n").filter((line) => !line.includes("fe80::")).join("\n");
  };
  const before = await picture();
  let agent = await ground.startAgent(host);
  await untilNamed(ground, host);

  await t.step("after the next start programs' open sockets are reset, and new ones work", async () => {
    const clients = addresses.echo!.map((address) => startTalker(ground, address));
    for (const client of clients) await client.waitForLine(/^open$/);
    await agent.stop({ signal: "SIGKILL" });
    assert.notEqual(await picture(), before);
    agent = await ground.startAgent(host);
    await untilNamed(ground, host);
    for (const client of clients) {
      const [, error] = await client.waitForLine(/^ended by (\w+)$/, { timeoutMs: 15_000 });
      assert.equal(error, "ConnectionReset");
    }
    for (const address of addresses.echo!) await startTalker(ground, address).waitForLine(/^echoed$/);
  });

  await t.step("and that one's end leaves nothing", async () => {
    assert.equal((await agent.stop()).code, 0);
    assert.equal(await picture(), before);
  });

  await t.step("a second agent is told what the first one has", async () => {
    agent = await ground.startAgent(host);
    await untilNamed(ground, host);
    const same = await ground.start(host, "bob", await config(ground, { capture: true }));
    assert.equal((await same.ended).code, 1);
    assert.match(same.lines.at(-1)!, /^ginnel run: .*interface ginnel1: another process is using it/);
  });

  await t.step("with an interface and ranges of its own it goes beside the first", async () => {
    const services = { interface: "ginnel2", dns: "serve" };
    let bob = await ground.start(host, "bob", await config(ground, services));
    const problem = await eventually(async () => {
      const { state, ...capture } = (await statusOf(ground, host, "bob")).parts.capture!;
      return state === "failed" && capture;
    });
    assert.match(
      problem.detail!,
      /10\.101\.0\.0\/16 are in use: interface ginnel1 has the route 10\.101\.0\.0\/16/,
    );
    const [, ipv4 = "", ipv6] = /\{"ipv4": "(\S+)", "ipv6": "(\S+)"\}/.exec(problem.hint!)!;
    await bob.stop();
    bob = await ground.start(host, "bob", await config(ground, { ...services, ipv4, ipv6 }));
    const resolver = ipv4.replace("0.0/16", "0.1");
    const ask = (name: string, ...options: string[]) => dig(ground, { host, name, options });
    const theirs = await eventually(async () => {
      const { answers: [address] } = await ask("other.ginnel.internal", `@${resolver}`);
      return address;
    }, { interval: 250 });
    assert.ok(theirs.startsWith(ipv4.replace("0.0/16", "")), theirs);
    const [theirs6] = (await ask("other.ginnel.internal", `@${resolver}`, "-t", "AAAA")).answers;
    for (const address of [...addresses.echo!, theirs, theirs6!]) {
      await startTalker(ground, address).waitForLine(/^echoed$/);
    }
    // Each knows what is its own, and only that.
    assert.equal((await ask("echo.ginnel.internal", `@${resolver}`)).code, "NXDOMAIN");
    assert.equal((await ask("other.ginnel.internal")).code, "NXDOMAIN");
    await bob.stop({ signal: "SIGKILL" });
    for (const address of addresses.echo!) await startTalker(ground, address).waitForLine(/^echoed$/);
    assert.equal((await agent.stop()).code, 0);
  });
});

/** The config of a second agent. */
async function config(ground: ServiceGround, services: object) {
  return { mode: "agent", identity: (await ground.identity("agent", "bob")).path, services };
}

/** A program that says something every now and then, and is told it back, until that ends. */
function startTalker(ground: ServiceGround, hostname: string): ManagedProcess {
  const text = `const conn = await Deno.connect({ hostname: "${hostname}", port: 7 });
    console.log("open");
    let echoed = false;
    const told = async () => {
      const buffer = new Uint8Array(64);
      while (await conn.read(buffer) !== null) {
        if (!echoed) console.log("echoed");
        echoed = true;
      }
      throw new Error("the end");
    };
    const say = async () => {
      for (;;) {
        await conn.write(new Uint8Array([1]));
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    };
    await Promise.race([told(), say()]).catch((error) => console.log("ended by", error.name));
    Deno.exit(0);`;
  return ground.spawn(host, [Deno.execPath(), "eval", text]);
}

function script(name: string): string[] {
  const path = new URL(`../support/${name}`, import.meta.url).pathname;
  return [Deno.execPath(), "run", "--quiet", "--no-check", "--allow-all", "--unstable-net", path];
}
