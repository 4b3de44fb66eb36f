/** What a relay asks of whatever tells it who may do what: policy files, or a controller. */

import type { EgressDocument } from "../../../core/egress/document.ts";
import type { PolicySnapshot } from "../../../core/policy/snapshot.ts";
import type { CertificateReference } from "../../../identity/chain.ts";
import type { Identity } from "../../../identity/identity_file.ts";
import type { SpiffeId } from "../../../identity/spiffe_id.ts";
import type { ViewSink } from "../view_publisher.ts";

/** What may change at a source. */
export type SourceChange = "policy" | "egress" | "identity" | "network";

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
  /** The egress policy in force, for a source that has it; undefined: the tunnels read their own files. */
  readonly egress: EgressDocument | null | undefined;
  /** The newest signed network document for nodes, where there is one. */
  readonly network: string | undefined;
  /** What is wrong although the relay works, as short phrases. */
  readonly problems: readonly string[];
  /** Whether a certificate that verifies may be used; a workload nobody knows yet is asked about. */
  admits(certificate: CertificateReference): boolean | Promise<boolean>;
  /** Somebody was admitted. */
  admitted(id: SpiffeId): void;
  /** Hands over the identity's signed view now, if there is one, and at every change; returns the way to stop. */
  subscribe(id: string, sink: ViewSink): () => void;
  onChange(listener: (changed: ReadonlySet<SourceChange>) => void): void;
  /** Reads again what comes from files. */
  reload(): Promise<void>;
}
