/** What a relay asks of whatever tells it who may do what: policy files, or a controller. */

import type { PolicySnapshot } from "../../../core/policy/snapshot.ts";
import type { CertificateReference } from "../../../identity/chain.ts";
import type { Identity } from "../../../identity/identity_file.ts";
import type { SpiffeId } from "../../../identity/spiffe_id.ts";
import type { AuditRecord } from "../../../telemetry/audit.ts";
import type { SessionLedger } from "../reporter/session_ledger.ts";
import type { StatedEgress } from "../tunnel/egress_source.ts";
import type { TunnelController } from "../tunnel/ip_tunnels.ts";
import type { ViewSink } from "../view_publisher.ts";

/** What may change at a source. */
export type SourceChange = "policy" | "egress" | "trust" | "identity" | "network";

/** Whom to believe. */
export interface SourceTrust {
  /** CA certificates of the network, PEM. */
  readonly roots: readonly string[];
  /** CA certificates of foreign trust domains, PEM. */
  readonly foreign: readonly { readonly domain: string; readonly roots: readonly string[] }[];
}

/** A relay's knowledge of its network. */
export interface NetworkSource extends AsyncDisposable {
  /** The relay's own identity. */
  readonly identity: Identity;
  readonly snapshot: PolicySnapshot;
  readonly trust: SourceTrust;
  /** What tunnels follow a controller in; undefined: the relay's own files say it. */
  readonly tunnels: TunnelController | undefined;
  /** The controller's egress policy; null without one. */
  readonly egress: StatedEgress;
  /** Who is connected, for a controller that wants to know. */
  readonly sessions: SessionLedger | undefined;
  /** The newest signed network document for nodes, where there is one. */
  readonly network: string | undefined;
  /** What is wrong although the relay works, as short phrases. */
  readonly problems: readonly string[];
  /** Whether a certificate that verifies may be used; a workload nobody knows yet is asked about. */
  admits(certificate: CertificateReference): boolean | Promise<boolean>;
  /** Whether a certificate that was admitted may still be used. */
  isAdmitted(certificate: CertificateReference): boolean;
  /** Somebody was admitted. */
  admitted(id: SpiffeId): void;
  /** Hands over the identity's signed view now, if there is one, and at every change; returns the way to stop. */
  subscribe(id: string, sink: ViewSink): () => void;
  onChange(listener: (changed: ReadonlySet<SourceChange>) => void): void;
  /** Calls back when an identity's tunnel addresses are no longer its own. */
  onReleased(listener: (identity: string) => void): void;
  /** Calls back when the controller is there again: what it told meanwhile was not heard. */
  onConnected(listener: () => void): void;
  /** Passes on what the relay's audit log is told. Never waits. */
  audit(record: AuditRecord, time: number): void;
  /** Reads again what comes from files. */
  reload(): Promise<void>;
}
