/**
 * Certificates that are renewed while a session lives. Inside the session's TLS stream, behind the hellos, either end
 * may show that it holds a newer certificate of the same identity, and the other says whether it took that:
 *
 *   renew {proof} ──▶        ◀── renewed {until}  or  refused {reason}
 *
 * Each message is length-prefixed JSON. An end that is refused, or hears nothing, tries again with a fresh proof; it
 * counts on its newer certificate only once the other end has taken it.
 */

import { z } from "zod";
import { errorCode } from "../base/errors.ts";
import type { Identity } from "../identity/identity_file.ts";
import { createRenewal, MAX_RENEWAL_LENGTH } from "../identity/renewal.ts";
import { encodeMessage, MessageReader } from "../wire/control/framing.ts";

/** What a renewer needs of its session. */
export interface SessionRenewerOptions {
  /** The session's public id. */
  readonly session: string;
  /** SPIFFE ID of the other end. */
  readonly peer: string;
  readonly now: () => number;
  readonly send: (bytes: Uint8Array) => void;
  /** Judges the peer's renewal and applies it; resolves with the new end, rejects with why not. */
  readonly accept: (proof: string) => Promise<number>;
  /** The peer took our newer certificate, which it will believe until then (milliseconds since the epoch). */
  readonly onRenewed: (until: number) => void;
}

/** Milliseconds before a renewal that was not taken is tried again; the double each time. */
const RETRY_MS = 15_000;

/** Tries for one certificate. Each costs the peer a part of what it lets us send. */
const MAX_TRIES = 8;

const messageSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("renew"), proof: z.string().max(MAX_RENEWAL_LENGTH) }),
  z.object({ type: z.literal("renewed"), until: z.int().nonnegative() }),
  z.object({ type: z.literal("refused"), reason: z.string().max(64) }),
]);

/** Both directions of renewing in one session. */
export class SessionRenewer {
  readonly #options: SessionRenewerOptions;
  readonly #reader = new MessageReader();
  /** The peer's messages are handled one after the other. */
  #handled: Promise<void> = Promise.resolve();
  /** What the peer is to take. */
  #offered: Identity | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #isClosed = false;

  constructor(options: SessionRenewerOptions) {
    this.#options = options;
  }

  /** Shows the peer a newer certificate until it takes it. */
  offer(identity: Identity): void {
    if (this.#isClosed) return;
    this.#offered = identity;
    this.#try(identity, 0);
  }

  /** Takes what came on the stream; throws when that is no message. */
  receive(bytes: Uint8Array): void {
    this.#reader.push(bytes);
    for (let value = this.#reader.next(); value !== undefined; value = this.#reader.next()) {
      const message = messageSchema.parse(value);
      switch (message.type) {
        case "renew":
          this.#handled = this.#handled.then(() => this.#answer(message.proof));
          break;
        case "renewed":
          this.#taken(message.until);
          break;
        case "refused":
          // The next try is due anyhow.
          break;
      }
    }
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retry);
  }

  async #answer(proof: string): Promise<void> {
    if (this.#isClosed) return;
    try {
      const until = await this.#options.accept(proof);
      this.#send({ type: "renewed", until });
    } catch (error) {
      this.#send({ type: "refused", reason: errorCode(error).slice(0, 64) });
    }
  }

  #taken(until: number): void {
    const offered = this.#offered;
    // Nothing was offered, or it was taken already: the peer's word alone renews nothing.
    if (offered === undefined) return;
    this.#offered = undefined;
    clearTimeout(this.#retry);
    this.#options.onRenewed(Math.min(until, offered.notAfter));
  }

  #try(identity: Identity, tries: number): void {
    clearTimeout(this.#retry);
    if (tries >= MAX_TRIES) return;
    this.#retry = setTimeout(() => this.#try(identity, tries + 1), RETRY_MS * 2 ** tries);
    void this.#offer(identity);
  }

  async #offer(identity: Identity): Promise<void> {
    const { session, peer, now } = this.#options;
    const proof = await createRenewal(identity, { audience: peer, session, now: now() });
    // The peer would take a longer one for an attack.
    if (proof.length <= MAX_RENEWAL_LENGTH) this.#send({ type: "renew", proof });
  }

  #send(message: z.input<typeof messageSchema>): void {
    if (!this.#isClosed) this.#options.send(encodeMessage(message));
  }
}
