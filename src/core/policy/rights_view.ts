/** What a policy grants one identity, as views state it, and how two such statements are compared. */

import type { Host } from "../service/host.ts";
import type { Intercept } from "../service/intercept.ts";
import { DEFAULT_IDLE_TIMEOUT, type EndToEnd } from "./document.ts";
import type { PolicyRules } from "./snapshot.ts";

/** A service the subject may Dial, and who may Bind it. */
export interface ViewDial {
  readonly service: string;
  readonly endToEnd: EndToEnd;
  /** SPIFFE IDs, sorted. */
  readonly bind: readonly string[];
  /** The service's number within the pools of the view's `services`. */
  readonly index?: number;
  readonly intercept?: Intercept;
  /** Seconds; absent: {@linkcode DEFAULT_IDLE_TIMEOUT}. */
  readonly idleTimeout?: number;
}

/** A service the subject may Bind, and who may Dial it. */
export interface ViewBind {
  readonly service: string;
  readonly endToEnd: EndToEnd;
  /** SPIFFE IDs, sorted. */
  readonly dial: readonly string[];
  readonly host?: Host;
  /** Seconds; absent: {@linkcode DEFAULT_IDLE_TIMEOUT}. */
  readonly idleTimeout?: number;
}

/** What one identity may do and with whom; sorted by service. Shared between identities: never change it. */
export interface RightsView {
  readonly dial: readonly ViewDial[];
  readonly bind: readonly ViewBind[];
}

/** A service of `rules` as the views of those say it that may Dial it. */
export function toViewDial(
  service: string,
  { rules, bind }: { readonly rules: PolicyRules; readonly bind: readonly string[] },
): ViewDial {
  const { endToEnd, intercept, idleTimeout } = rules.services.get(service)!;
  const index = rules.indexes.get(service);
  return {
    service,
    endToEnd,
    bind,
    ...(index !== undefined && { index }),
    ...(intercept !== undefined && { intercept }),
    ...idleEntry(idleTimeout),
  };
}

/** A service of `rules` as the views of those say it that may Bind it. */
export function toViewBind(
  service: string,
  { rules, dial }: { readonly rules: PolicyRules; readonly dial: readonly string[] },
): ViewBind {
  const { endToEnd, host, idleTimeout } = rules.services.get(service)!;
  return { service, endToEnd, dial, ...(host !== undefined && { host }), ...idleEntry(idleTimeout) };
}

/** Whether two views grant the same; cheap where they share lists. */
export function sameRights(a: RightsView, b: RightsView): boolean {
  if (a === b) return true;
  return a.dial.length === b.dial.length && a.bind.length === b.bind.length &&
    a.dial.every((entry, index) => sameDial(entry, b.dial[index]!)) &&
    a.bind.every((entry, index) => sameBind(entry, b.bind[index]!));
}

/** What is as everywhere is left out: views are sent often. */
function idleEntry(idleTimeout: number | undefined): { readonly idleTimeout?: number } {
  return idleTimeout === undefined || idleTimeout === DEFAULT_IDLE_TIMEOUT ? {} : { idleTimeout };
}

function sameDial(a: ViewDial, b: ViewDial): boolean {
  return a === b || a.service === b.service && a.endToEnd === b.endToEnd && a.index === b.index &&
      a.idleTimeout === b.idleTimeout && samePeers(a.bind, b.bind) && sameData(a.intercept, b.intercept);
}

function sameBind(a: ViewBind, b: ViewBind): boolean {
  return a === b || a.service === b.service && a.endToEnd === b.endToEnd &&
      a.idleTimeout === b.idleTimeout && samePeers(a.dial, b.dial) && sameData(a.host, b.host);
}

function samePeers(a: readonly string[], b: readonly string[]): boolean {
  return a === b || a.length === b.length && a.every((id, index) => id === b[index]);
}

/** Data that was read once is one object, and needs no look inside. */
function sameData(a: Intercept | Host | undefined, b: Intercept | Host | undefined): boolean {
  return a === b || a !== undefined && b !== undefined && JSON.stringify(a) === JSON.stringify(b);
}
