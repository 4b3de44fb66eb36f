/**
 * Names and addresses on a user's machine: those of services, also the ones that a network's administrator intercepts;
 * everything else goes its own way, and what is not granted is not there at all.
 */

import assert from "node:assert/strict";
import type { AgentStatus } from "../../src/modes/agent/agent_status.ts";
import { PROGRAM } from "../support/deployment.ts";
import { needsRoot, needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { ServiceGround } from "../support/service_ground.ts";
import { SERVICES } from "../support/tunnel_hosts.ts";
import { ping, seenAs } from "../support/tunnel_traffic.ts";
import { within } from "../support/within.ts";

const NEEDS = [needsRoot(), needsTun(), needsTool("curl"), needsTool("dig"), needsTool("ping")];

/** Milliseconds in which a program must hear that it is refused. */
const REFUSAL_LIMIT = 1_000;

const WEB_PORT = [{ low: 80, high: 80 }];

testNeeding(NEEDS, "names and addresses lead where policy says, and nothing else is touched", async (t) => {
  await using ground = await ServiceGround.create();
  // The second connector's host is the internet, too: its web server tells under which address it was reached.
  await ground.hosts.startInternet("conn2");
  await ground.hosts.writeNames({
    "www.example.net": { addresses: [SERVICES.web, SERVICES.web6], ttl: 60 },
    "a.wild.example": { addresses: [SERVICES.web], ttl: 60 },
    "b.wild.example": { addresses: [SERVICES.other], ttl: 60 },
  });
  const way = ground.hosts.host("conn2").address;
  const way6 = ground.hosts.address6("conn2");
  await ground.hosts.configure("agent1", [
    ...[`${SERVICES.dns}/32`, "198.51.100.0/24"].map((prefix) => `route add ${prefix} via ${way}`),
    `route add 2001:db8:100::/48 via ${way6}`,
  ]);
  const forwarding = (address: string[]) => ({
    intercept: { addresses: address, portRanges: WEB_PORT, protocols: ["tcp"] },
    host: { protocol: "tcp", forwardAddress: true, allowedAddresses: address, port: 80 },
  });
  await ground.service({
    name: "exact",
    intercept: { addresses: ["intranet.corp.example"], portRanges: WEB_PORT, protocols: ["tcp"] },
    host: { protocol: "tcp", address: SERVICES.web, port: 80 },
  });
  await ground.service({ name: "wild", ...forwarding(["*.wild.example"]) });
  await ground.service({ name: "range", ...forwarding(["198.51.100.16/28", "2001:db8:100::/64"]) });
  const hidden = await ground.service({
    name: "hidden",
    intercept: { addresses: ["hidden.corp.example"], portRanges: WEB_PORT, protocols: ["tcp"] },
    host: { protocol: "tcp", address: SERVICES.web, port: 80 },
  });
  await ground.allow("Dial", ["#all"], ["@exact", "@wild", "@range"]);
  await ground.allow("Bind");
  const connector = await ground.startConnector("conn2", {
    hosting: { allow: ["*.wild.example", "198.51.100.0/24", "2001:db8:100::/64"] },
  });
  for (const name of ["exact", "wild", "range"]) {
    await connector.waitForLine(new RegExp(`"service_bound".*"service":"${name}"`));
  }
  const agent = await ground.startAgent("agent1");
  await ground.eventually("agent1", ["getent", "hosts", "exact.ginnel.internal"]);

  const dig = async (...question: string[]) =>
    (await ground.run("agent1", ["dig", "+short", "+time=2", "+tries=1", ...question])).trim();
  const statusOf = async (...question: string[]) =>
    /status: (\w+)/.exec(await ground.run("agent1", ["dig", "+time=2", "+tries=1", ...question]))?.[1];
  const reached = async (host: string) => (await seenAs(ground, { from: "agent1", web: host })).address;
  const [ipv4, ipv6] = [await dig("exact.ginnel.internal", "A"), await dig("exact.ginnel.internal", "AAAA")];

  await t.step("the machine's resolver knows services: A, AAAA, SRV and PTR", async () => {
    assert.match(ipv4, /^10\.101\.\d+\.\d+$/);
    assert.match(ipv6, /^fd[0-9a-f:]+$/);
    const found = await ground.run("agent1", ["getent", "ahosts", "EXACT.ginnel.internal"]);
    assert.ok(found.includes(ipv4) && found.includes(ipv6), found);
    assert.equal(await dig("_http._tcp.exact.ginnel.internal", "SRV"), "0 0 80 exact.ginnel.internal.");
    assert.equal(await dig("-x", ipv4), "exact.ginnel.internal.");
    assert.equal(await dig("-x", ipv6), "exact.ginnel.internal.");
    assert.equal(await dig("+tcp", "exact.ginnel.internal", "A"), ipv4);
    assert.equal(await statusOf("nobody.ginnel.internal", "A"), "NXDOMAIN");
    assert.equal(await dig("exact.ginnel.internal", "TXT"), "");
  });

  await t.step("a service is at its name, at an intercepted name and at its addresses", async () => {
    for (const host of ["exact.ginnel.internal", "intranet.corp.example", ipv4, ipv6]) {
      assert.equal(await reached(host), SERVICES.web, host);
    }
  });

  await t.step("below a wildcard, the name that was asked for chooses the upstream", async () => {
    assert.equal(await reached("a.wild.example"), SERVICES.web);
    assert.equal(await reached("b.wild.example"), SERVICES.other);
    assert.match(await dig("b.wild.example", "A"), /^10\.101\./);
    assert.equal(await reached("nobody.wild.example"), undefined, "there is no such upstream");
  });

  await t.step("so do addresses of an intercepted range outside of the pools", async () => {
    assert.equal(await reached(SERVICES.other), SERVICES.other);
    assert.equal(await reached(SERVICES.other6), SERVICES.other6);
    assert.equal((await ping(ground, { from: "agent1", to: SERVICES.other, count: 2 })).received, 2);
  });

  await t.step("what is nobody's of ours goes its own way, and so do other names", async () => {
    const { address } = ground.hosts.host("agent1");
    assert.equal(await reached(SERVICES.web), address);
    assert.equal(await reached("www.example.net"), address);
    assert.equal(await dig("www.example.net", "A"), SERVICES.web);
    assert.equal(await statusOf("nobody.example.net", "A"), "NXDOMAIN");
  });

  const refusalOf = (transport: "tcp" | "udp", host: string, port: number) =>
    within(REFUSAL_LIMIT, async () => {
      const text = await ground.run("agent1", ["bash", "-c", KNOCK, transport, host, `${port}`]);
      return /refused|unreachable|No route|prohibited|Permission|silence/i.exec(text)?.[0] ?? text;
    }, { processes: [agent.pid] });

  await t.step("ports that no service has, and addresses of nobody, are refused at once", async () => {
    const nobody = ["10.101.0.99", ipv6.replace(/::.*/, "::63")] as const;
    for (const service of [ipv4, ipv6]) {
      assert.equal(await refusalOf("tcp", service, 81), "refused", service);
      assert.equal(await refusalOf("udp", service, 80), "refused", service);
    }
    for (const transport of ["tcp", "udp"] as const) {
      assert.equal(await refusalOf(transport, nobody[0], 80), "No route", transport);
      assert.equal(await refusalOf(transport, nobody[1], 80), "Permission", transport);
    }
    for (const to of nobody) {
      const { received, text } = await ping(ground, { from: "agent1", to, count: 1 });
      assert.equal(received, 0);
      assert.match(text, /filtered|prohibited/i);
    }
  });

  await t.step(
    "a service that one may not dial is not there: by name, by address or in the status",
    async () => {
      const { json } = await ground.api("GET", `/services/${hidden}`);
      const { virtualAddresses } = json as { virtualAddresses: Record<"ipv4" | "ipv6", string> };
      assert.equal(await statusOf("hidden.ginnel.internal", "A"), "NXDOMAIN");
      // Our own resolver has nothing to say of it, and the internet's does not know it.
      assert.equal(await statusOf("hidden.corp.example", "A"), "NXDOMAIN");
      assert.equal(await dig("-x", virtualAddresses.ipv4), "");
      assert.equal(await refusalOf("tcp", virtualAddresses.ipv4, 80), "No route");
      assert.equal(await refusalOf("tcp", virtualAddresses.ipv6, 80), "Permission");
      const { services, parts } = await status(ground);
      assert.deepEqual(services.map(({ name }) => name).toSorted(), ["exact", "range", "wild"]);
      assert.ok(!agent.lines.some((line) => line.includes("hidden")));
      assert.equal(parts.capture?.state, "on");
    },
  );

  await t.step("the status tells each service's path and last use", async () => {
    const { services } = await status(ground);
    const exact = services.find(({ name }) => name === "exact")!;
    assert.deepEqual(exact.names.toSorted(), ["exact.ginnel.internal", "intranet.corp.example"]);
    assert.deepEqual({ ...exact.addresses }, { ipv4, ipv6 });
    assert.deepEqual([exact.ports, exact.protocols], [["80"], ["tcp"]]);
    const { kind, relay, connector } = exact.path!;
    assert.deepEqual([kind, relay, connector], [
      "relay",
      "relay-1",
      "spiffe://test.example/connector/connector-2",
    ]);
    const age = Date.now() - Date.parse(exact.lastUsed!);
    assert.ok(age >= 0 && age < 60_000, exact.lastUsed);
  });
});

/** Says something at TRANSPORT HOST PORT and tells why that failed, or of silence. */
const KNOCK =
  `{ exec 3<>"/dev/$0/$1/$2" && printf x >&3 && timeout 5 head -c1 <&3; test $? != 124 || echo silence; } 2>&1`;

async function status(ground: ServiceGround): Promise<AgentStatus> {
  const config = `${ground.folder}/agent-1.config.json`;
  return JSON.parse(await ground.run("agent1", [...PROGRAM, "status", "--json", "--config", config]));
}
