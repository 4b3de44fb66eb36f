/** What a service may be called: its name is also a host name, an HTTP path segment and a metric label. */

/** Longest service name, so that `<name>.ginnel.internal` still is a host name (RFC 1035 §2.3.4: 253 characters). */
export const MAX_SERVICE_NAME = 200;

const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/;
const RESERVED_SUFFIX = "ginnel.internal";

/**
 * Tells what is wrong with a service name, or returns undefined. A name is lower-case DNS labels joined by dots;
 * the last one is not a number, so that no name reads as an IP address.
 */
export function serviceNameFault(name: string): string | undefined {
  if (name.length > MAX_SERVICE_NAME) return `longer than ${MAX_SERVICE_NAME} characters`;
  const labels = name.split(".");
  if (!labels.every((label) => LABEL.test(label))) {
    return "not a service name: use lower-case letters, digits, - and _, in parts of at most 63 joined by dots";
  }
  if (/^[0-9]+$/.test(labels.at(-1)!)) {
    return "not a service name: it would read as an IP address or a number";
  }
  if (name === RESERVED_SUFFIX || name.endsWith(`.${RESERVED_SUFFIX}`)) {
    return `not a service name: leave out .${RESERVED_SUFFIX}`;
  }
  return undefined;
}
