/**
 * Workloads of a foreign SPIFFE trust domain in a network with a controller: they come in by the rules of their domain
 * and nobody else does, their SVIDs rotate under running flows, and what is taken from them is gone within a second.
 */

import assert from "node:assert/strict";
import { openCaDirectory } from "../../src/identity/ca_directory.ts";
import { parseCertificatesPem } from "../../src/identity/certificate.ts";
import { ControllerGround, type Enrolled } from "../support/controller_ground.ts";
import { PROGRAM } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import {
  ForeignDomain,
  holderOf,
  type Svid,
  SvidFolder,
  type WritingManner,
} from "../support/foreign_domain.ts";
import { LongFlow } from "../support/long_flow.ts";
import type { AgentNode, ConnectorNode, RelayNode } from "../support/network.ts";
import { runCommand } from "../support/processes.ts";
import { RecordingUpstream } from "../support/recording_upstream.ts";
import { RelayCaller } from "../support/relay_caller.ts";

/** Milliseconds after the API's answer in which a change is in force everywhere. */
const LIMIT_MS = 1_000;

/** Seconds that rotated SVIDs live, and how often each is replaced: the last one begins after the first has ended. */
const SHORT_LIFE = 9;
const ROTATIONS = 6;
const ROTATION_MS = 2_000;

const CARRIERS = ["quic", "tls"] as const;

Deno.test("workloads of a foreign trust domain, by its rules and for as long as these say so", async (t) => {
  await using ground = await Ground.create();
  const { control, domain } = ground;

  await t.step("they offer and dial by the attributes of the rules that match them", async () => {
    for (const carrier of CARRIERS) {
      using flow = await ground.flow(carrier);
      await flow.finish();
    }
    assert.deepEqual((await ground.attributes()).toSorted(), [
      [domain.idOf("/ns/db/sa/quic"), ["records"]],
      [domain.idOf("/ns/db/sa/tls"), ["records"]],
      [domain.idOf("/ns/prod/desk/quic"), ["clerks"]],
      [domain.idOf("/ns/prod/desk/tls"), ["clerks"]],
    ]);
  });

  await t.step("nobody else comes in", async () => {
    const path = "/ns/prod/desk/quic";
    const stranger = await ForeignDomain.create("stranger.example");
    const impostor = await ForeignDomain.create(domain.name);
    const own = await openCaDirectory(`${control.controllers[0]!.data}/ca`);
    const { parsed } = parseCertificatesPem(own.ca.certificatePem)[0]!;
    const ownCa = {
      subject: parsed.subject,
      keys: { privateKey: own.ca.privateKey, publicKey: await parsed.publicKey.export() },
    };
    const refused: Record<string, Svid> = {
      "no rule matches": await domain.svid("/ns/dev/sa/web"),
      "a rule matches only a part": await domain.svid("/ns/prod"),
      "another domain": await stranger.svid(path),
      "a wrong CA of that name": await impostor.svid(path),
      "another domain's CA": await domain.svid(path, { by: await stranger.addCa() }),
      "our own CA": await domain.svid(path, { by: ownCa }),
      "expired": await domain.svid(path, { seconds: -1 }),
    };
    for (const [what, svid] of Object.entries(refused)) assert.equal(await ground.answerTo(svid), 401, what);
    // The domain's CA vouches for nobody of ours, whatever it signs.
    for (const kind of ["agent", "connector", "relay"]) {
      const ours = await domain.svidOf(`spiffe://test.example/${kind}/operator`);
      assert.equal(await ground.answerTo(ours), 401, kind);
    }
    assert.equal(await ground.answerTo(await domain.svid(path)), 200);
  });

  await t.step("SVIDs are replaced in every manner under flows that lose no byte", async () => {
    await ground.rotate({ seconds: SHORT_LIFE });
    const until = Date.now() + SHORT_LIFE * 1_000;
    const flows = await ground.flows();
    const manners: readonly WritingManner[] = ["renamed", "key first", "certificate first"];
    for (let round = 0; round < ROTATIONS; round++) {
      const due = Date.now() + ROTATION_MS;
      await ground.rotate({
        seconds: round === ROTATIONS - 1 ? 600 : SHORT_LIFE,
        manner: manners[round % manners.length]!,
      });
      await Promise.all(flows.map((flow) => flow.goesOn()));
      await eventually(() => Date.now() >= due);
    }
    assert.ok(Date.now() > until, "the SVIDs that the flows began with have not ended yet");
    await ground.flowsAreWhole(flows);
    ground.wasQuiet();
  });

  await t.step(
    "the domain's CA is replaced under flows, early or late; the old one is out within 1 s",
    async () => {
      const flows = await ground.flows();
      const [first] = domain.roots;
      const late = await domain.svid("/ns/prod/desk/late");
      await domain.addCa();
      // The helper is ahead of the administrator: what nobody trusts yet is not taken, and what is there stays.
      const notTaken = ground.nodes.map((node) => node.count(/"identity_not_reloaded"/));
      await ground.write({ seconds: 600 });
      await eventually(() =>
        ground.nodes.every((node, index) => node.count(/"identity_not_reloaded"/) > notTaken[index]!)
      );
      const taken = ground.nodes.map((node) => node.count(/"identity_reloaded"/));
      await ground.change({ roots: domain.roots });
      await eventually(() =>
        ground.nodes.every((node, index) => node.count(/"identity_reloaded"/) > taken[index]!)
      );
      await ground.untilProven();
      await using caller = new RelayCaller(ground.relay, ground.root);
      const laggard = await caller.admitted(await holderOf(late));
      await ground.change({ roots: domain.roots.filter((root) => root !== first) });
      await inTime(() => laggard.carrier.closed);
      assert.equal(await ground.answerTo(late), 401);
      await ground.flowsAreWhole(flows);
      ground.wasQuiet();
    },
  );

  await t.step(
    "an attribute that a rule no longer gives is gone from connected workloads within 1 s",
    async () => {
      for (const [service, rules] of [["desk", RULES.slice(0, 1)], ["db", RULES.slice(1)]] as const) {
        const flows = await ground.flows();
        const rest = { path: service === "desk" ? "/ns/prod/**" : "/ns/db/**", roleAttributes: ["nothing"] };
        await ground.change({ rules: [...rules, rest] });
        await inTime(() => Promise.all(flows.map(({ ended }) => ended)));
        for (const carrier of CARRIERS) await assert.rejects(ground.flow(carrier));
        await eventually(async () => {
          for (const [id, attributes] of await ground.attributes()) {
            const given = id.includes(`/${service}/`)
              ? "nothing"
              : id.includes("/db/")
              ? "records"
              : "clerks";
            assert.deepEqual(attributes, [given], id);
          }
          return true;
        });
        await ground.change({ rules: RULES });
        for (const flow of await ground.flows()) await flow.finish();
      }
    },
  );

  await t.step(
    "a rule that is gone, and a domain that is disabled or removed, ends them within 1 s",
    async () => {
      const ways: Record<string, () => Promise<void>> = {
        "no rule": () => ground.change({ rules: RULES.slice(0, 1) }),
        "disabled": () => ground.change({ disabled: true }),
        "removed": () => ground.remove(),
      };
      const svid = await domain.svid("/ns/prod/desk/other");
      for (const [what, lose] of Object.entries(ways)) {
        const flows = await ground.flows();
        await using caller = new RelayCaller(ground.relay, ground.root);
        const other = await caller.admitted(await holderOf(svid));
        await lose();
        await inTime(() => Promise.all([other.carrier.closed, ...flows.map(({ ended }) => ended)]));
        assert.equal(await ground.answerTo(svid), 401, what);
        for (const carrier of CARRIERS) await assert.rejects(ground.flow(carrier), what);
        await ground.restore();
        await eventually(async () => await ground.answerTo(svid) === 200);
        for (const flow of await ground.flows()) await flow.finish();
      }
    },
  );
});

/** Attributes by path. */
const RULES = [
  { path: "/ns/db/sa/*", roleAttributes: ["records"] },
  { path: "/ns/prod/**", roleAttributes: ["clerks"] },
];

/** One relay that follows a controller; for each carrier a connector and an agent with SVIDs of a foreign domain. */
class Ground implements AsyncDisposable {
  readonly control: ControllerGround;
  relay!: RelayNode;
  root!: string;
  domain!: ForeignDomain;
  readonly nodes: Workload[] = [];
  readonly #stack = new AsyncDisposableStack();
  readonly #upstreams = new Map<string, RecordingUpstream>();
  #domainId = "";

  static async create(): Promise<Ground> {
    const ground = new Ground(await ControllerGround.create());
    try {
      await ground.#start();
    } catch (error) {
      await ground[Symbol.asyncDispose]();
      throw error;
    }
    return ground;
  }

  private constructor(control: ControllerGround) {
    this.control = this.#stack.use(control);
  }

  /** A flow between the two workloads of a carrier. */
  async flow(carrier: typeof CARRIERS[number]): Promise<LongFlow> {
    const agent = this.nodes.find(({ path }) => path === `/ns/prod/desk/${carrier}`)!.node as AgentNode;
    return this.#stack.use(await LongFlow.open(agent.forward(`records-${carrier}`)));
  }

  /** A flow on each carrier, as soon as it goes. */
  flows(): Promise<readonly LongFlow[]> {
    return Promise.all(CARRIERS.map((carrier) => eventually(() => this.flow(carrier))));
  }

  /** Ends flows and looks at what the services were told. */
  async flowsAreWhole(flows: readonly LongFlow[]): Promise<void> {
    for (const [index, flow] of flows.entries()) {
      await flow.finish();
      const { connections } = this.#upstreams.get(CARRIERS[index]!)!;
      await eventually(() => connections.at(-1)!.end === "ended");
      assert.equal(connections.at(-1)!.bytes.length, flow.bytes);
    }
  }

  /** Replaces every workload's SVID; resolves when all have taken the new one. */
  async rotate(options: { readonly seconds: number; readonly manner?: WritingManner }): Promise<void> {
    const taken = this.nodes.map((node) => node.count(/"identity_reloaded"/));
    await this.write(options);
    await eventually(() =>
      this.nodes.every((node, index) => node.count(/"identity_reloaded"/) > taken[index]!)
    );
  }

  /** Replaces every workload's SVID. */
  async write(
    { seconds, manner = "renamed" }: { readonly seconds: number; readonly manner?: WritingManner },
  ): Promise<void> {
    await Promise.all(this.nodes.map(async (workload) => {
      const broken = workload.count(/"identity_not_reloaded"/);
      await workload.svid.write(await this.domain.svid(workload.path, { seconds }), {
        manner,
        // The node has seen the one without the other.
        between: async () => {
          if (manner !== "renamed") {
            await eventually(() => workload.count(/"identity_not_reloaded"/) > broken);
          }
        },
      });
    }));
  }

  /** Resolves when every workload has shown the relay what it holds now. */
  async untilProven(): Promise<void> {
    const now = new Map<string, string>();
    for (const { path, svid } of this.nodes) {
      const [leaf] = parseCertificatesPem(await Deno.readTextFile(svid.certificate));
      now.set(this.domain.idOf(path), new Date(leaf!.notAfter).toISOString());
    }
    await eventually(() =>
      [...now].every(([identity, notAfter]) =>
        this.relay.lines.some((line) =>
          line.includes(`"peer_renewed","identity":"${identity}","notAfter":"${notAfter}"`)
        )
      )
    );
  }

  /** No workload has lost its relay so far. */
  wasQuiet(): void {
    for (const { node } of this.nodes) {
      assert.deepEqual(node.lines.filter((line) => line.includes(`"relay_lost"`)), []);
    }
  }

  /** The workloads that the controller knows, with what the rules give them. */
  async attributes(): Promise<readonly (readonly [string, readonly string[]])[]> {
    const { json } = await this.control.api("GET", "/identities?type=workload");
    const { data } = json as { data: readonly { spiffeId: string; derivedAttributes: string[] }[] };
    return data.map(({ spiffeId, derivedAttributes }) => [spiffeId, derivedAttributes] as const);
  }

  /** What the relay answers to a proof by an SVID. */
  async answerTo(svid: Svid): Promise<number> {
    await using caller = new RelayCaller(this.relay, this.root);
    const connection = await caller.dial();
    return (await connection.view(await caller.proof(await holderOf(svid)))).status;
  }

  async change(fields: Readonly<Record<string, unknown>>): Promise<void> {
    const { status, json } = await this.control.api("PATCH", `/trust-domains/${this.#domainId}`, fields);
    assert.equal(status, 200, JSON.stringify(json));
  }

  async remove(): Promise<void> {
    const { status } = await this.control.api("DELETE", `/trust-domains/${this.#domainId}`);
    assert.equal(status, 204);
    this.#domainId = "";
  }

  /** The trust domain is there as it was. */
  async restore(): Promise<void> {
    const { name, roots } = this.domain;
    if (this.#domainId !== "") return await this.change({ rules: RULES, disabled: false });
    const made = await this.control.make("/trust-domains", { name, roots: roots.slice(-1), rules: RULES });
    this.#domainId = made.id;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }

  async #start(): Promise<void> {
    const { control } = this;
    this.domain = await ForeignDomain.create("partner.example");
    await this.restore();
    for (const carrier of CARRIERS) await control.make("/services", { name: `records-${carrier}` });
    for (const [type, role] of [["Dial", "#clerks"], ["Bind", "#records"]]) {
      await control.make("/service-policies", {
        name: `${type} ${role}`,
        type,
        semantic: "AnyOf",
        identityRoles: [role],
        serviceRoles: ["#all"],
      });
    }
    this.relay = await control.relay();
    [this.root] = await control.roots() as [string];
    const operator = await control.enrol("agent", "operator");
    const network = `${control.folder}/network.trust.json`;
    await runCommand([...PROGRAM, "identity", "trust", operator.path, "-o", network]);
    for (const carrier of CARRIERS) {
      const upstream = this.#stack.use(new RecordingUpstream());
      this.#upstreams.set(carrier, upstream);
      const service = `records-${carrier}`;
      await this.#workload(
        `/ns/db/sa/${carrier}`,
        { operator, network },
        (options) => control.connector({ ...options(carrier), services: { [service]: upstream.url } }),
      );
      await this.#workload(
        `/ns/prod/desk/${carrier}`,
        { operator, network },
        (options) => control.agent({ ...options(carrier), forwards: [service] }),
      );
    }
  }

  async #workload(
    path: string,
    { operator, network }: { readonly operator: Enrolled; readonly network: string },
    start: (
      options: (carrier: string) => { name: string; identity: Enrolled; config: Record<string, unknown> },
    ) => Promise<AgentNode | ConnectorNode>,
  ): Promise<void> {
    const name = path.slice(1).replaceAll("/", "-");
    const svid = await SvidFolder.create(`${this.control.folder}/${name}`, await this.domain.svid(path));
    const { certificate, key } = svid;
    const node = await start((carrier) => ({
      name,
      // Whom the ground would enrol otherwise; the config names the SVID in its place.
      identity: operator,
      config: { identity: { certificate, key, network }, carrier },
    }));
    this.nodes.push(new Workload({ path, svid, node }));
  }
}

/** A node with an SVID. */
class Workload {
  readonly path: string;
  readonly svid: SvidFolder;
  readonly node: AgentNode | ConnectorNode;

  constructor(parts: { path: string; svid: SvidFolder; node: AgentNode | ConnectorNode }) {
    this.path = parts.path;
    this.svid = parts.svid;
    this.node = parts.node;
  }

  /** Log lines so far that a pattern fits. */
  count(pattern: RegExp): number {
    return this.node.lines.filter((line) => pattern.test(line)).length;
  }
}

/** Waits for what follows from the API's answer that has just come. */
async function inTime(consequence: () => Promise<unknown>): Promise<void> {
  const answered = performance.now();
  await consequence();
  const elapsed = performance.now() - answered;
  assert.ok(elapsed <= LIMIT_MS, `it took ${Math.round(elapsed)} ms`);
}
