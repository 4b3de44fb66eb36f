/**
 * Where a node's identity comes from, kept up to date: an identity file or the files of an SVID, read again when they
 * change, and the network documents that relays pass on. What is broken is logged, and what was there before stays.
 */

import { errorCode, errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { NodeIdentity } from "../../config/schema/common.ts";
import { type Identity, loadIdentity, updateIdentityFile } from "../../identity/identity_file.ts";
import {
  type NetworkDocument,
  type NodeNetwork,
  toNodeNetwork,
  verifyNetworkDocument,
} from "../../identity/network_document.ts";
import { isNewer, loadSvid, trustOfDocument } from "../../identity/svid_files.ts";
import { watchFiles } from "../../io/system/watch_files.ts";

/** What has changed about an identity. */
export interface IdentityChange {
  /** It has another certificate. */
  readonly certificate: boolean;
  /** It trusts other CAs, or other foreign trust domains, or other certificates are revoked. */
  readonly trust: boolean;
  /** Other authorities may sign. */
  readonly authorities: boolean;
  /** Other relays are listed. */
  readonly relays: boolean;
}

/** A node's identity as it is now. */
export class IdentitySource {
  readonly #place: NodeIdentity;
  readonly #logger: Logger;
  readonly #listeners = new Set<(change: IdentityChange) => void>();
  /** Changes happen one after the other. */
  #busy: Promise<void> = Promise.resolve();
  #current: Identity;
  /** The files hold something that could not be taken. */
  #isBehind = false;
  #unwatch: () => void = () => {};

  private constructor(place: NodeIdentity, parts: { readonly identity: Identity; readonly logger: Logger }) {
    this.#place = place;
    this.#current = parts.identity;
    this.#logger = parts.logger;
  }

  /** Reads the identity for the first time, which has to succeed, and watches its files. */
  static async open(
    place: NodeIdentity,
    { logger }: { readonly logger: Logger },
  ): Promise<IdentitySource> {
    const source = new IdentitySource(place, { identity: await read(place, undefined), logger });
    source.#watch();
    return source;
  }

  get current(): Identity {
    return this.#current;
  }

  /** Calls back after each change; returns the way to stop. */
  onChange(listener: (change: IdentityChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Reads the files again. Never rejects. */
  reload(): Promise<void> {
    return this.#next(() => this.#reload());
  }

  /** Takes a network document that a relay passed on, if an authority signed it and it is new. Never rejects. */
  acceptNetwork(jws: string, relay: string): Promise<void> {
    return this.#next(async () => {
      const { trust, network } = this.#current;
      let document: NetworkDocument;
      try {
        document = await verifyNetworkDocument(jws, {
          authorities: trust.authorities,
          trustDomain: trust.domain,
          ...(network === undefined ? {} : { minRev: network.rev, minIat: network.iat }),
        });
      } catch (error) {
        const level = errorCode(error) === "ERR_NETWORK_DOCUMENT_OUTDATED" ? "debug" : "warn";
        this.#logger[level]("network_refused", {
          relay,
          reason: errorCode(error),
          detail: errorMessage(error),
        });
        return;
      }
      if (network !== undefined && !isNewer(document, network)) return;
      this.#use(withDocument(this.#current, document));
      this.#logger.info("network_updated", { relay, revision: document.rev, relays: document.relays.length });
      await this.#store(document);
      // An SVID of a CA that was not trusted yet may be good by now.
      if (this.#isBehind) await this.#reload();
    });
  }

  close(): Promise<void> {
    this.#unwatch();
    this.#listeners.clear();
    return this.#busy;
  }

  async #reload(): Promise<void> {
    this.#isBehind = true;
    try {
      const identity = await read(this.#place, this.#current);
      if (identity.id.uri !== this.#current.id.uri) {
        this.#logger.error("identity_not_reloaded", { detail: `it is now that of ${identity.id.uri}` });
        return;
      }
      this.#isBehind = false;
      const isRenewed = this.#use(identity);
      if (!isRenewed) return;
      this.#logger.info("identity_reloaded", { notAfter: new Date(identity.notAfter).toISOString() });
    } catch (error) {
      this.#logger.error("identity_not_reloaded", {
        reason: errorCode(error),
        detail: errorMessage(error),
      });
    }
  }

  /** Keeps a document over a restart. An SVID's files are others' to write. */
  async #store(document: NetworkDocument): Promise<void> {
    if (typeof this.#place !== "string") return;
    try {
      await updateIdentityFile(this.#place, () => ({
        trust: trustOfDocument(document),
        network: toNodeNetwork(document),
      }));
    } catch (error) {
      this.#logger.warn("network_not_stored", { reason: errorCode(error), detail: errorMessage(error) });
    }
  }

  #next(task: () => Promise<void>): Promise<void> {
    return this.#busy = this.#busy.then(task);
  }

  /** Puts an identity in the present one's place; returns whether that made a difference to its certificate. */
  #use(next: Identity): boolean {
    const before = this.#current;
    const { roots, authorities, foreign } = before.trust;
    // What is the same stays the very same, so that it is cheap to see.
    const trust = {
      ...next.trust,
      roots: same(roots, next.trust.roots),
      authorities: same(authorities, next.trust.authorities),
      foreign: same(foreign, next.trust.foreign),
    };
    const change: IdentityChange = {
      certificate: next.certificatePem !== before.certificatePem,
      trust: trust.roots !== roots || trust.foreign !== foreign ||
        !isSame(before.network?.revoked, next.network?.revoked),
      authorities: trust.authorities !== authorities,
      relays: !isSame(before.network?.relays, next.network?.relays),
    };
    const isChanged = Object.values(change).includes(true);
    if (!isChanged && isSame(before.network, next.network)) return false;
    this.#current = { ...next, trust };
    if (isChanged) { for (const listener of this.#listeners) listener(change); }
    return change.certificate;
  }

  #watch(): void {
    const place = this.#place;
    const paths = typeof place === "string" ? [place] : [place.certificate, place.key, place.network];
    try {
      this.#unwatch = watchFiles(paths, () => void this.reload());
    } catch (error) {
      this.#logger.warn("identity_not_watched", { detail: errorMessage(error) });
    }
  }
}

/** Reads an identity; a network that is known already and newer than the files' stays. */
async function read(place: NodeIdentity, before: Identity | undefined): Promise<Identity> {
  const now = Date.now();
  const known = before?.network === undefined ? undefined : { trust: before.trust, network: before.network };
  if (typeof place !== "string") return await loadSvid(place, { now, known });
  const identity = await loadIdentity(place, { now });
  const isOlder = known !== undefined &&
    (identity.network === undefined || isNewer(known.network, identity.network));
  return isOlder ? { ...identity, ...known } : identity;
}

function withDocument(identity: Identity, document: NetworkDocument): Identity {
  const network: NodeNetwork = toNodeNetwork(document);
  return { ...identity, trust: trustOfDocument(document), network };
}

function same<T>(before: T, next: T): T {
  return isSame(before, next) ? before : next;
}

function isSame(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
