/** Somebody's ping that goes on while others attack: tells whether it noticed. */

import { echo } from "../dataplane/tunnel/packets.ts";
import { eventually } from "./eventually.ts";
import type { ManagedProcess } from "./processes.ts";
import type { RogueTunnel } from "./rogue.ts";
import type { GroundHost, TunnelGround } from "./tunnel_ground.ts";
import { describePacket, sealed } from "./tunnel_packets.ts";

/** Resolves with true when an answer to an IPv4 ping comes through a rogue's tunnel; one that is lost is sent again. */
export async function pingThrough(tunnel: RogueTunnel, to: string): Promise<true> {
  await tunnel.packets();
  const ping = sealed(echo({ src: tunnel.addressFor(to), dst: to }));
  return await eventually(async () => {
    await tunnel.send(ping);
    return (await tunnel.packets()).map(describePacket).includes(`${to} protocol 1: 0`);
  }, { interval: 100 });
}

/** Seconds between pings. */
const INTERVAL = 0.1;

/** A running ping; disposing it ends it. */
export class Bystander implements AsyncDisposable {
  readonly #ping: ManagedProcess;

  private constructor(ping: ManagedProcess) {
    this.#ping = ping;
  }

  /** Starts to ping; resolves when the first answer has come. */
  static async start(ground: TunnelGround, route: { from: GroundHost; to: string }): Promise<Bystander> {
    const bystander = new Bystander(
      ground.spawn(route.from, ["ping", "-n", "-O", "-i", `${INTERVAL}`, route.to]),
    );
    await bystander.answered(1);
    return bystander;
  }

  /** Resolves when that many more pings were answered; throws when one before was not. */
  async answered(count: number): Promise<void> {
    const before = this.#last();
    await eventually(() => this.#last() >= before + count, { timeout: 20_000, interval: 50 });
    const missing = this.#missing();
    if (missing.length > 0) {
      throw new Error(`No answer to ping ${missing}; it printed:\n${this.#ping.lines.join("\n")}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#ping.stop({ signal: "SIGINT" });
  }

  #numbers(): number[] {
    return this.#ping.lines.flatMap((line) => {
      const [, number] = /bytes from .* icmp_seq=(\d+) /.exec(line) ?? [];
      return number === undefined ? [] : [Number(number)];
    });
  }

  #last(): number {
    return this.#numbers().at(-1) ?? 0;
  }

  /** Of those that somebody was heard of later. */
  #missing(): number[] {
    const numbers = new Set(this.#numbers());
    const [first = 0] = numbers;
    const all = Array.from({ length: this.#last() - first + 1 }, (_, index) => first + index);
    return all.filter((number) => !numbers.has(number));
  }
}
