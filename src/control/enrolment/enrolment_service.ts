/**
 * Enrolment: an administrator's one-time token and a device's signing request become a certificate, once; and a
 * certificate in force becomes the next one.
 */

import { errorMessage } from "../../base/errors.ts";
import type { Outcome } from "../../core/network/administration.ts";
import type { Resource } from "../../core/network/resources.ts";
import { readCsr } from "../../identity/csr.ts";
import {
  type EnrolmentTokenFacts,
  signEnrolmentToken,
  verifyEnrolmentToken,
} from "../../identity/enrolment_token.ts";
import type { Authority } from "../../identity/authority.ts";
import { IdentityError } from "../../identity/errors.ts";
import type { VerifiedProof } from "../../identity/proof.ts";
import type { SpiffeId } from "../../identity/spiffe_id.ts";
import type { Enrolment, IssuedCertificateRecord, Store, StoreTransaction } from "../store.ts";
import { EnrolmentAudit, type EnrolmentEvent } from "./enrolment_audit.ts";
import {
  type EnrollableKind,
  type EnrolmentResult,
  isEnrollable,
  judge,
  refusal,
  type Refused,
  Rollback,
  whyNotEnrollable,
} from "./enrolment_refusal.ts";

/** What the service asks of the CA. */
export interface IssuingPort {
  readonly trustDomain: string;
  readonly authority: Authority;
  /** Fingerprints of the CA that issues, and of the one that will. */
  readonly issuer: string;
  readonly nextIssuer: string | undefined;
  issue(
    publicKey: CryptoKey,
    subject: { readonly kind: EnrollableKind; readonly name: string; readonly life: number },
  ): Promise<Omit<IssuedCertificateRecord, "identityId" | "revokedAt"> & { readonly certificate: string }>;
}

/** What the service needs. */
export interface EnrolmentServiceOptions {
  readonly store: Pick<Store, "transaction" | "find" | "get" | "enrolments" | "certificate" | "appendAudit">;
  readonly ca: IssuingPort;
  /** All controllers of the network, this one first. */
  readonly controllers: () => readonly { readonly name: string; readonly url: string }[];
  /** The signed network document. */
  readonly network: () => Promise<string>;
  /** Milliseconds that certificates, and tokens, last. */
  readonly life: { readonly node: number; readonly user: number; readonly token: number };
  /** This controller's SPIFFE ID, the source of its audit entries. */
  readonly source: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** What was issued and is not recorded yet. */
type Issued = Awaited<ReturnType<IssuingPort["issue"]>>;

const MAX_TOKEN_LIFE = 30 * 24 * 60 * 60_000;
const JTI_LENGTH = 16;

/** Enrolment at one controller. */
export class EnrolmentService {
  readonly #options: EnrolmentServiceOptions;
  readonly #audit: EnrolmentAudit;

  constructor(options: EnrolmentServiceOptions) {
    this.#options = options;
    this.#audit = new EnrolmentAudit(options);
  }

  /** Makes a one-time token for an identity; its text exists here only. `by` is who asked for it. */
  async createToken(
    identityId: string,
    options: { readonly by: string; readonly ttlMs?: number },
  ): Promise<Outcome<{ readonly token: string; readonly enrolment: Enrolment }>> {
    const { store, ca, life, controllers, source } = this.#options;
    const { by, ttlMs = life.token } = options;
    if (!(ttlMs >= 1_000 && ttlMs <= MAX_TOKEN_LIFE)) {
      const message = `must be from 1 second to ${MAX_TOKEN_LIFE / 1_000}`;
      return { ok: false, fault: "invalid", errors: [{ field: "ttl", message }] };
    }
    return await store.transaction<Outcome<{ token: string; enrolment: Enrolment }>>(async (tx) => {
      const identity = await tx.get("identity", identityId);
      if (identity === undefined) return { ok: false, fault: "missing" };
      const conflict = whyNotEnrollable(identity);
      if (conflict !== undefined) return { ok: false, fault: "conflict", detail: conflict };
      // Whole seconds, as the token states them: both then end at the same moment.
      const iat = Math.floor(this.#options.now() / 1_000);
      const exp = iat + Math.ceil(ttlMs / 1_000);
      const id = crypto.getRandomValues(new Uint8Array(JTI_LENGTH)).toHex();
      const enrolment = { id, identityId, createdAt: iat * 1_000, expiresAt: exp * 1_000, usedAt: null };
      const ctl = controllers();
      const token = await signEnrolmentToken(ca.authority, {
        iss: ctl[0]!.url,
        sub: identity.spec.spiffeId,
        jti: id,
        iat,
        exp,
        ca: ca.issuer,
        ...(ca.nextIssuer === undefined ? {} : { caNext: ca.nextIssuer }),
        ctl: [...ctl],
      });
      await tx.addEnrolment(enrolment);
      await tx.audit({
        time: this.#options.now(),
        event: "admin",
        who: by,
        target: `identity/${identity.name}`,
        outcome: "ok",
        detail: { action: "create-enrolment", enrolment: id, expiresAt: enrolment.expiresAt },
        source,
      });
      return { ok: true, value: { token, enrolment } };
    });
  }

  /** Turns a token and a signing request into a certificate, once. */
  async enrol(
    request: { readonly token: string; readonly csr: string },
    context: { readonly remote: string },
  ): Promise<EnrolmentResult> {
    const { ca, controllers, now } = this.#options;
    const event = { action: "enrol", remote: context.remote } as const;
    let facts: EnrolmentTokenFacts;
    try {
      facts = await verifyEnrolmentToken(request.token, {
        authorities: [ca.authority.publicJwk],
        trustDomain: ca.trustDomain,
        issuers: controllers().map(({ url }) => url),
        now: now(),
      });
    } catch (error) {
      if (!(error instanceof IdentityError)) throw error;
      const refused = refusal("token", errorMessage(error));
      return await this.#refuse(refused, { ...event, identity: undefined, detail: { code: error.code } });
    }
    const { id, claims: { jti } } = facts;
    const asked = { ...event, identity: id.uri, detail: { enrolment: jti } };
    const ready = await this.#prepare(id, request.csr);
    if (!ready.ok) return await this.#refuse(ready, asked);
    const result = await this.#options.store.transaction<Refused | undefined>(async (tx) => {
      const enrolment = await tx.useEnrolment(jti, now());
      if (enrolment === undefined) return refusal("token-unknown", "");
      const identity = await tx.get("identity", enrolment.identityId);
      const fault = judge(identity, id);
      if (fault !== undefined) throw new Rollback(fault);
      // An identity is one device: whoever had it before is out from now on.
      const revoked = await tx.revokeCertificates({ identityId: identity!.id }, now());
      await this.#record(tx, { identity: identity!, issued: ready.issued, event: asked, extra: { revoked } });
    }).catch(Rollback.toRefusal);
    if (result !== undefined) {
      return await this.#refuse(
        result.reason === "token-unknown" ? await this.#whyNotUsable(id, jti) : result,
        asked,
      );
    }
    return await this.#answer(ready.issued);
  }

  /** Turns a proof by a certificate in force and a signing request into the identity's next certificate. */
  async renew(
    proof: Pick<VerifiedProof, "id" | "certificateSerial">,
    request: { readonly csr: string },
    context: { readonly remote: string },
  ): Promise<EnrolmentResult> {
    const { store } = this.#options;
    const { certificateSerial: serial } = proof;
    const event = { action: "renew", remote: context.remote, detail: { by: serial } } as const;
    const asked = { ...event, identity: proof.id.uri };
    const { id } = proof;
    const ready = await this.#prepare(id, request.csr);
    if (!ready.ok) return await this.#refuse(ready, asked);
    const refused = await store.transaction<Refused | undefined>(async (tx) => {
      const identity = await tx.find("identity", id.uri);
      const fault = judge(identity, id);
      if (fault !== undefined) return fault;
      await this.#record(tx, { identity: identity!, issued: ready.issued, event: asked });
    });
    if (refused !== undefined) return await this.#refuse(refused, asked);
    // Looked at after the commit: a revocation before it is seen here, one after it takes the new certificate too.
    if ((await store.certificate(serial))?.revokedAt != null) {
      await store.transaction((tx) =>
        tx.revokeCertificates({ serial: ready.issued.serial }, this.#options.now())
      );
      return await this.#refuse(refusal("certificate-revoked"), asked);
    }
    return await this.#answer(ready.issued);
  }

  /** Everything that needs no transaction: judging the request and the identity, signing the certificate. */
  async #prepare(
    id: SpiffeId,
    csr: string,
  ): Promise<Refused | { readonly ok: true; readonly issued: Issued }> {
    const { store, ca, life } = this.#options;
    const { kind, name, trustDomain } = id;
    if (!isEnrollable(kind) || trustDomain !== ca.trustDomain) return refusal("identity-unknown");
    let publicKey: CryptoKey;
    try {
      ({ publicKey } = await readCsr(csr, id));
    } catch (error) {
      if (!(error instanceof IdentityError)) throw error;
      return refusal("csr", errorMessage(error));
    }
    const fault = judge(await store.find("identity", id.uri), id);
    if (fault !== undefined) return fault;
    const issued = await ca.issue(publicKey, { kind, name, life: kind === "user" ? life.user : life.node });
    return { ok: true, issued };
  }

  async #record(
    tx: StoreTransaction,
    facts: {
      readonly identity: Resource<"identity">;
      readonly issued: Issued;
      readonly event: Omit<EnrolmentEvent, "outcome">;
      readonly extra?: Readonly<Record<string, unknown>>;
    },
  ): Promise<void> {
    const { identity, issued: { spiffeId, serial, issuedAt, notAfter, issuer }, event, extra } = facts;
    await tx.addCertificate({
      serial,
      identityId: identity.id,
      spiffeId,
      issuedAt,
      notAfter,
      issuer,
      revokedAt: null,
    });
    const detail = { ...event.detail, serial, notAfter, ...extra };
    await tx.audit(this.#audit.fact({ ...event, outcome: "ok", detail })!);
  }

  async #whyNotUsable(id: SpiffeId, jti: string): Promise<Refused> {
    const { store } = this.#options;
    const identity = await store.find("identity", id.uri);
    const enrolments = identity === undefined ? [] : await store.enrolments(identity.id);
    return enrolments.some((enrolment) => enrolment.id === jti && enrolment.usedAt !== null)
      ? refusal("token-used")
      : refusal("token-unknown");
  }

  async #refuse(refused: Refused, event: Omit<EnrolmentEvent, "outcome">): Promise<Refused> {
    const detail = { ...event.detail, reason: refused.reason };
    const fact = this.#audit.fact({ ...event, outcome: "denied", detail });
    if (fact !== undefined) await this.#options.store.appendAudit([fact]);
    return refused;
  }

  async #answer({ spiffeId, certificate, notAfter }: Issued): Promise<EnrolmentResult> {
    return { ok: true, identity: spiffeId, certificate, notAfter, network: await this.#options.network() };
  }
}
