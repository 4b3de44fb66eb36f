/** JSON and text that both databases take: PostgreSQL refuses NUL and half surrogate pairs. */

/** What in JSON text PostgreSQL would refuse; it may also be an escaped backslash before harmless letters. */
const SUSPECT = /\\u(?:0000|d[89a-f])/i;

/** Latest time that PostgreSQL and `Date` both hold: the end of the year 9999. */
const MAX_TIME = 253_402_300_799_999;

/** Writes a value as JSON. */
export function toJson(value: unknown): string {
  const text = JSON.stringify(value);
  return SUSPECT.test(text) ? JSON.stringify(cleaned(JSON.parse(text))) : text;
}

/** Text as both databases hold it. */
export function toText(text: string): string {
  return text.toWellFormed().replaceAll("\0", "\ufffd");
}

/** A time in whole milliseconds that both databases hold. */
export function toTime(time: number): number {
  return Number.isFinite(time) ? Math.min(Math.max(Math.trunc(time), 0), MAX_TIME) : 0;
}

function cleaned(value: unknown): unknown {
  if (typeof value === "string") return toText(value);
  if (Array.isArray(value)) return value.map(cleaned);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [toText(key), cleaned(entry)]));
}
