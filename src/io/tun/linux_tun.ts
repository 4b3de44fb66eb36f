/**
 * A Linux TUN interface through `shim.c`. Reading and writing are synchronous calls for a whole batch; only waiting
 * takes a thread.
 */

import { setImmediate } from "node:timers";
import type { PacketBatch } from "../../dataplane/tunnel/packet_batch.ts";
import type { PacketDevice } from "../../dataplane/tunnel/packet_device.ts";
import { GinnelError } from "../../base/errors.ts";
import { AdaptiveSpin } from "./adaptive_spin.ts";
import { errnoName, openError } from "./errors.ts";
import { openShim, type Shim } from "./shim.ts";

const SET_MTU = 0;
const SET_QUEUE = 1;
/**
 * What the kernel holds for us while we are busy: 40 ms at 100,000 packets a second. Measured on two shared cores at
 * 90,000 packets of 1,200 bytes a second: 1,000 lost 12 to 14 % at this queue, 4,000 none to 5 %.
 */
const QUEUE_PACKETS = 4_000;

/** An open interface; see {@linkcode PacketDevice}. */
export class LinuxTun implements PacketDevice {
  readonly name: string;
  readonly #shim: Shim;
  readonly #fd: number;
  readonly #event: number;
  readonly #offloads: number;
  readonly #pending: Uint8Array<ArrayBuffer>;
  readonly #spin = new AdaptiveSpin();
  #waiting = false;
  #closed = false;

  private constructor(name: string, shim: Shim, { fd, event, offloads }: Descriptors) {
    this.name = name;
    this.#shim = shim;
    this.#fd = fd;
    this.#event = event;
    this.#offloads = offloads;
    this.#pending = new Uint8Array(shim.symbols.tun_pending_size());
  }

  /** Opens the interface, which stays down; throws a {@linkcode GinnelError}. */
  static open({ name, mtu }: { readonly name: string; readonly mtu: number }): LinuxTun {
    const shim = openShim();
    try {
      const device = new LinuxTun(name, shim, openDescriptors(shim, name));
      try {
        device.setMtu(mtu);
        // A longer queue is welcome, never needed: an interface made by somebody else may be out of our hands.
        shim.symbols.tun_set(encodeName(name), SET_QUEUE, QUEUE_PACKETS);
        return device;
      } catch (error) {
        device.#closeDescriptors();
        throw error;
      }
    } catch (error) {
      shim.close();
      throw error;
    }
  }

  read(batch: PacketBatch): number {
    batch.count = 0;
    if (this.#closed) return 0;
    const { bytes, starts, ends } = batch;
    const count = this.#shim.symbols.tun_read(
      this.#fd,
      this.#pending,
      bytes,
      bytes.length,
      starts,
      ends,
      starts.length,
      batch.headroom,
    );
    if (count < 0) throw this.#lost(-count);
    batch.count = count;
    return count;
  }

  async readable(): Promise<boolean> {
    if (this.#closed) return false;
    if (this.#waiting) throw new TypeError("Cannot wait for packets twice at once");
    this.#waiting = true;
    const start = performance.now();
    const result = await this.#look(start + this.#spin.budget) ||
      await this.#shim.symbols.tun_wait(this.#fd, this.#event);
    this.#spin.waited(performance.now() - start);
    this.#waiting = false;
    if (this.#closed) {
      this.#release();
      return false;
    }
    if (result < 0) throw this.#lost(-result);
    return true;
  }

  write(batch: PacketBatch): number {
    const { bytes, starts, ends, count } = batch;
    if (count === 0) return 0;
    if (this.#closed) return count;
    if (count > starts.length) throw new RangeError(`Cannot write ${count} packets of ${starts.length}`);
    return this.#shim.symbols.tun_write(
      this.#fd,
      this.#offloads,
      bytes,
      bytes.length,
      starts,
      ends,
      count,
    );
  }

  setMtu(mtu: number): void {
    if (this.#closed) return;
    const result = this.#shim.symbols.tun_set(encodeName(this.name), SET_MTU, mtu);
    if (result === 0) return;
    throw new GinnelError(
      "ERR_TUN_MTU",
      `The MTU of ${this.name} cannot be set to ${mtu}: ${errnoName(-result)}`,
    );
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    // A thread may be waiting on the descriptors: it is woken, and they are closed when it has gone.
    if (this.#waiting) this.#shim.symbols.tun_signal(this.#event);
    else this.#release();
  }

  /** Looks once per turn of the event loop; returns 0 when there is still nothing at `deadline`. */
  async #look(deadline: number): Promise<number> {
    while (performance.now() < deadline) {
      await new Promise((resolve) => setImmediate(resolve));
      if (this.#closed) return 1;
      const result = this.#shim.symbols.tun_poll(this.#fd);
      if (result !== 0) return result;
    }
    return 0;
  }

  #release(): void {
    this.#closeDescriptors();
    this.#shim.close();
  }

  #closeDescriptors(): void {
    this.#shim.symbols.tun_close(this.#fd);
    this.#shim.symbols.tun_close(this.#event);
  }

  #lost(errno: number): GinnelError {
    return new GinnelError("ERR_TUN_LOST", `Interface ${this.name} is gone: ${errnoName(errno)}`, {
      hint: "Leave the interface to the program that made it; start that again to get it back.",
    });
  }
}

/** Throws what keeps an interface from being opened here, and makes none. */
export function checkLinuxTun(name: string): void {
  const shim = openShim();
  try {
    shim.symbols.tun_privilege();
    const told = new Uint32Array(2);
    // The kernel looks at this name last: it refuses it only to who may make an interface.
    const result = shim.symbols.tun_open(encodeName(IMPOSSIBLE_NAME), 0, told);
    if (result >= 0) shim.symbols.tun_close(result);
    const deviceOpened = told[0] !== 0;
    const refused = deviceOpened && errnoName(-result) === "EINVAL";
    if (result < 0 && !refused) throw openError({ name, errno: -result, deviceOpened });
  } finally {
    shim.close();
  }
}

const IMPOSSIBLE_NAME = "/";

interface Descriptors {
  readonly fd: number;
  /** An eventfd that ends a wait. */
  readonly event: number;
  readonly offloads: number;
}

function openDescriptors({ symbols }: Shim, name: string): Descriptors {
  symbols.tun_privilege();
  const told = new Uint32Array(2);
  const fd = symbols.tun_open(encodeName(name), 0, told);
  if (fd < 0) throw openError({ name, errno: -fd, deviceOpened: told[0] !== 0 });
  const event = symbols.tun_event();
  if (event >= 0) return { fd, event, offloads: told[1] as number };
  symbols.tun_close(fd);
  throw openError({ name, errno: -event, deviceOpened: true });
}

function encodeName(name: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${name}\0`);
}
