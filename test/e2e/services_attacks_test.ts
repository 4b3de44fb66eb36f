/**
 * A user's machine with services, among others on its network; and administrators who would lead a connector where its
 * owner does not want it.
 */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import { needsNetworkNamespaces, needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { ServiceGround } from "../support/service_ground.ts";

const NEEDS = [needsNetworkNamespaces(), needsTun(), needsTool("nft"), needsTool("dig"), needsTool("curl")];

/** Hears everything on a host's network but the host's loopback, and prints each packet in hexadecimal. */
const SNIFFER = `
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
s.bind(("eth0", 0))
print("sniffing", flush=True)
while True: print(s.recv(65535).hex(), flush=True)
`;

/** Answers every question with 192.0.2.66. */
const NAME_SERVER = `
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("8.8.8.8", 53))
print("serving", flush=True)
while True:
  q, who = s.recvfrom(4096)
  end = q.index(0, 12) + 5
  s.sendto(q[:2] + b"\\x81\\x80\\0\\1\\0\\1\\0\\0\\0\\0" + q[12:end] + b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\5\\0\\4\\xc0\\0\\2\\x42", who)
`;

testNeeding(
  NEEDS,
  "names of services never leave the machine, nobody else is served, and its status is its own",
  async () => {
    await using ground = await ServiceGround.create();
    await ground.service({
      name: "web",
      intercept: {
        addresses: ["web.corp.example", "*.wild.example"],
        portRanges: [{ low: 80, high: 80 }],
        protocols: ["tcp"],
      },
    });
    await ground.allow("Dial");
    await ground.allow("Bind");
    const { hosts } = ground;
    await hosts.configure("relay2", ["addr add 8.8.8.8/32 dev lo"]);
    await hosts.configure("agent1", [`route add default via ${hosts.host("relay2").address}`]);
    await ground.spawn("relay2", ["python3", "-c", NAME_SERVER]).waitForLine(/^serving$/);
    ground.spawn("conn1", [
      "python3",
      "-m",
      "http.server",
      "8080",
      "--bind",
      "127.0.0.1",
      "--directory",
      ground.folder,
    ]);
    await ground.startConnector("conn1", { services: [{ name: "web", upstream: "tcp://127.0.0.1:8080" }] });
    const agent = await ground.startAgent("agent1");
    await ground.eventually("agent1", [
      "curl",
      "-sSf",
      "-m",
      "3",
      "-o",
      "/dev/null",
      "http://web.ginnel.internal/",
    ]);

    const sniffer = ground.spawn("agent1", ["python3", "-u", "-c", SNIFFER]);
    await sniffer.waitForLine(/^sniffing$/);
    const dig = (...what: string[]) =>
      ground.run("agent1", ["dig", "+tries=1", "+time=2", "+short", ...what]);
    const names = ["web.ginnel.internal", "NoWhere.GINNEL.internal", "web.corp.example", "x.wild.EXAMPLE"];
    for (const name of names) {
      for (const type of ["A", "AAAA", "TXT", "HTTPS", "ANY", "SRV", "NS"]) {
        assert.doesNotMatch(await dig(name, type), /192\.0\.2\.66/, `${name} ${type}`);
      }
      await dig("+tcp", name);
    }
    await dig("-x", "10.101.0.17");
    await ground.run("agent1", ["sh", "-c", "getent ahosts nobody.ginnel.internal; getent ahosts web; true"]);
    assert.match(await dig("www.outside.example"), /192\.0\.2\.66/);
    const heard = await eventually(() =>
      sniffer.lines.some((line) => line.includes(hex("outside"))) && sniffer.lines
    );
    for (const label of ["ginnel", "corp", "wild", "in-addr"]) {
      const wire = hex(String.fromCharCode(label.length) + label);
      assert.deepEqual(heard.filter((line) => lower(line).includes(wire)), [], label);
    }

    // A neighbour takes this machine for a router, and for a name server.
    const [, web = ""] = /^(10\.101\.\S+)/m.exec(await dig("web.ginnel.internal")) ?? [];
    assert.ok(web);
    await ground.run("agent1", ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    await hosts.configure("agent2", [`route add 10.101.0.0/16 via ${hosts.host("agent1").address}`]);
    await assert.rejects(ground.run("agent2", ["curl", "-sS", "-m", "2", `http://${web}/`]));
    for (const server of ["10.101.0.1", hosts.host("agent1").address]) {
      await assert.rejects(
        ground.run("agent2", ["dig", "+tries=1", "+time=1", `@${server}`, "web.ginnel.internal"]),
      );
    }

    const socket = `${ground.folder}/run-agent1`;
    const [file] = [...Deno.readDirSync(socket)].filter(({ name }) => name.endsWith(".sock"));
    assert.ok(file, "a control socket");
    const path = `${socket}/${file.name}`;
    assert.equal(Deno.statSync(path).mode! & 0o777, 0o600);
    assert.equal(Deno.statSync(socket).mode! & 0o777, 0o700);
    const ask = (...more: string[]) =>
      ground.run("agent1", [
        "curl",
        "-sS",
        "-m",
        "10",
        "--unix-socket",
        path,
        "-w",
        "%{http_code}",
        "-o",
        "/dev/null",
        ...more,
      ]);
    assert.equal(await ask("http://x/status"), "200");
    await Deno.writeTextFile(`${ground.folder}/large`, "x".repeat(8 << 20));
    for (
      const attack of [
        ["-X", "POST", "--data-binary", `@${ground.folder}/large`, "http://x/status"],
        ["-H", `x: ${"y".repeat(100_000)}`, "http://x/status"],
        ["-X", "DELETE", "http://x/status"],
        ["http://x/status/../../etc/passwd"],
      ]
    ) {
      assert.notEqual(await ask(...attack).catch(() => "broken"), "200");
    }
    assert.equal(await ask("http://x/status"), "200", "still there");

    await agent.stop({ signal: "SIGKILL" });
    const before = sniffer.lines.length;
    await ground.run("agent1", [
      "sh",
      "-c",
      "getent ahosts web.ginnel.internal; getent ahosts x.wild.example; true",
    ]);
    await assert.rejects(ground.run("agent1", ["curl", "-sS", "-m", "2", `http://${web}/`]));
    assert.deepEqual(sniffer.lines.slice(before).filter((line) => line.includes(hex("\x06ginnel"))), []);
    assert.deepEqual(
      sniffer.lines.slice(before).filter((line) => line.slice(32, 36) === "0a65"),
      [],
      "nothing to 10.101.0.0/16",
    );
  },
);

testNeeding(
  NEEDS,
  "a connector leads nowhere that its owner does not allow, whatever the controller defines",
  async () => {
    await using ground = await ServiceGround.create();
    const port = 8080;
    const attacks: Record<string, object> = {
      metadata: { protocol: "tcp", address: "169.254.169.254", port: 80 },
      mapped: { protocol: "tcp", address: "::ffff:169.254.169.254", port: 80 },
      other: { protocol: "tcp", address: "127.0.0.1", port: 22 },
      nowhere: { protocol: "tcp", address: "0.0.0.0", port },
      lan: {
        protocol: "tcp",
        forwardAddress: true,
        allowedAddresses: ["10.77.0.0/16", "169.254.0.0/16"],
        port,
      },
      local6: { protocol: "tcp", address: "::1", port },
    };
    for (const [name, host] of Object.entries(attacks)) await ground.service({ name, host });
    // A range wider than what is allowed: each flow is checked.
    await ground.service({
      name: "wide",
      host: {
        ...{ protocol: "tcp", forwardAddress: true, allowedAddresses: ["0.0.0.0/0", "::/0", "*.example"] },
        ...{ forwardPort: true, allowedPortRanges: [{ low: 1, high: 65_535 }] },
      },
      intercept: {
        addresses: ["192.0.2.0/24", "name.example"],
        portRanges: [{ low: 1, high: 65_535 }],
        protocols: ["tcp"],
      },
    });
    await ground.service({ name: "good", host: { protocol: "tcp", address: "127.0.0.1", port } });
    await ground.allow("Dial");
    await ground.allow("Bind");
    ground.spawn("conn1", [
      "python3",
      "-m",
      "http.server",
      `${port}`,
      "--bind",
      "127.0.0.1",
      "--directory",
      ground.folder,
    ]);
    // Without `hosting` nothing is offered, and nothing is asked for.
    const bare = await ground.startConnector("conn2", {});
    const connector = await ground.startConnector("conn1", { hosting: { allow: [`127.0.0.1:${port}`] } });
    await connector.waitForLine(/"service_bound".*"service":"good"/);
    await ground.startAgent("agent1");
    const get = (host: string) =>
      ground.run("agent1", ["curl", "-sS", "-m", "5", "-o", "/dev/null", `http://${host}/`]);
    await ground.eventually("agent1", [
      "curl",
      "-sSf",
      "-m",
      "5",
      "-o",
      "/dev/null",
      "http://good.ginnel.internal/",
    ]);
    for (const name of Object.keys(attacks)) {
      await assert.rejects(get(`${name}.ginnel.internal:${port}`), name);
      await connector.waitForLine(new RegExp(`"service_not_hosted".*"service":"${name}"`));
    }
    for (const place of ["192.0.2.7", `192.0.2.7:${port}`, `name.example:${port}`, "name.example:22"]) {
      await assert.rejects(get(place), place);
    }
    const bound = (lines: readonly string[]) =>
      lines.flatMap((line) => /"service_bound".*"service":"(\w+)"/.exec(line)?.[1] ?? []).sort();
    assert.deepEqual(bound(bare.lines), []);
    assert.deepEqual(bound(connector.lines), ["good", "wide"]);
  },
);

function hex(text: string): string {
  return new TextEncoder().encode(text).toHex();
}

/** Letters of a packet in hexadecimal, in lower case. */
function lower(line: string): string {
  return Uint8Array.fromHex(/^(?:[0-9a-f]{2})*$/.test(line) ? line : "")
    .map((byte) => byte >= 0x41 && byte <= 0x5a ? byte + 32 : byte).toHex();
}
