/** What `ginnel check` says of controllers, of relays that follow one, and of nodes that leave their relays to the network. */

import assert from "node:assert/strict";
import { inspectConfig } from "../../src/cli/inspect_config.ts";
import { createCaDirectory, openCaDirectory } from "../../src/identity/ca_directory.ts";
import { issueIdentity } from "../../src/identity/issue_identity.ts";
import { writeSecretFile } from "../../src/identity/secret_file.ts";

const DAY = 86_400_000;

/** Writes a config into a folder of its own, lets `prepare` add to it, and returns `verdict subject: text` lines. */
async function inspect(
  config: Readonly<Record<string, unknown>>,
  prepare: (folder: string) => Promise<void> = () => Promise.resolve(),
  now = Date.now(),
): Promise<string[]> {
  const folder = await Deno.makeTempDir();
  try {
    await prepare(folder);
    const file = `${folder}/config.json`;
    await Deno.writeTextFile(file, JSON.stringify(config));
    const { findings } = await inspectConfig(file, now);
    return findings.map(({ verdict, subject, text, hint }) => {
      assert.equal(
        hint === undefined,
        verdict === "ok",
        `${subject}: a hint for what is not right, and only then`,
      );
      return `${verdict} ${subject}: ${text}`.replaceAll(folder, "");
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const CONTROLLER = { mode: "controller", trustDomain: "d.example", names: ["c.d.example"] };

function ca(trustDomain: string, days = 3_650) {
  return async (folder: string) => {
    await createCaDirectory(`${folder}/data/ca`, { trustDomain, now: Date.now(), days });
  };
}

Deno.test("a controller that has not started yet will make its CA and its database", async () => {
  assert.deepEqual(await inspect(CONTROLLER), [
    "ok config: /config.json, mode controller",
    "ok ca: none in /data/ca: the first start makes one for d.example",
    "ok database: none at /data/ginnel.db: the first start makes it",
    "ok api: 0.0.0.0:8441, known to nodes as https://c.d.example:8441",
  ]);
});

Deno.test("a controller's CA must be of its network, and is reported before it ends", async () => {
  const [, other] = await inspect(CONTROLLER, ca("other.example"));
  assert.equal(other, "fail ca: /data/ca is the CA of other.example");
  const [, right] = await inspect(CONTROLLER, ca("d.example"));
  assert.match(right!, /^ok ca: d\.example, valid until /);
  const [, old] = await inspect(CONTROLLER, ca("d.example", 90), Date.now() + 40 * DAY);
  assert.match(old!, /^warn ca: d\.example, valid until /);
});

Deno.test("a controller on PostgreSQL without a CA may be the second one; its URL is not repeated", async () => {
  const config = { ...CONTROLLER, database: { kind: "postgres", urlFile: "url" } };
  const lines = await inspect(
    config,
    (folder) => writeSecretFile(`${folder}/url`, "postgres://u:pw1234@db.example/g\n"),
  );
  assert.match(lines[1]!, /^warn ca: none/);
  assert.equal(lines[2], "ok database: PostgreSQL db.example/g");
  const broken = await inspect(
    config,
    (folder) => writeSecretFile(`${folder}/url`, "mysql://u:pw1234@db.example/g\n"),
  );
  assert.match(broken[2]!, /^fail database: .*holds no URL of a PostgreSQL database/);
  assert.ok(![...lines, ...broken].join().includes("pw1234"));
  const readable = await inspect(
    config,
    (folder) => Deno.writeTextFile(`${folder}/url`, "postgres://h/g", { mode: 0o644 }),
  );
  assert.match(readable[2]!, /^fail database: .*mode 0644/);
});

Deno.test("an address that only this machine reaches, or that is not in the certificate, is told", async () => {
  const [local, absent] = [
    await inspect({ mode: "relay", controller: { trustDomain: "d.example" }, health: null }),
    await inspect({ ...CONTROLLER, url: "https://elsewhere.example:8441" }),
  ];
  assert.match(local.at(-1)!, /^warn api: .*https:\/\/localhost:8441: only this machine reaches that/);
  const [six] = (await inspect({ ...CONTROLLER, names: ["fd00::1"] })).slice(-1);
  assert.equal(six, "ok api: 0.0.0.0:8441, known to nodes as https://[fd00::1]:8441");
  assert.match(absent.at(-1)!, /^warn api: .*https:\/\/elsewhere\.example:8441/);
});

Deno.test("nodes without relays and relays without controllers need an identity file that names them", async () => {
  const issue = (kind: "agent" | "relay") => async (folder: string) => {
    await createCaDirectory(`${folder}/ca`, { trustDomain: "d.example", now: Date.now(), days: 100 });
    const { ca, authority } = await openCaDirectory(`${folder}/ca`);
    const options = { kind, name: "one", now: Date.now(), days: 50, authorities: [authority] };
    await writeSecretFile(`${folder}/id.json`, (await issueIdentity(ca, options)).text);
  };
  const agent = await inspect(
    { mode: "agent", identity: "id.json", socks5: "127.0.0.1:1080" },
    issue("agent"),
  );
  assert.equal(agent.at(-1), "fail relays: neither the config nor the identity file names one");
  const relay = await inspect({ mode: "relay", identity: "id.json" }, issue("relay"));
  assert.equal(relay.at(-1), "fail controllers: neither the config nor the identity file names one");
  const controllers = [{ name: "c", url: "https://c.example" }];
  const named = await inspect({ mode: "relay", identity: "id.json", controllers }, issue("relay"));
  assert.equal(named.at(-1), "ok controllers: c at https://c.example");
});
