/** How the sessions of all relays are told apart: each relay numbers its own. */

/** A session's id among all relays': no relay can overwrite another's. */
export function sessionKey(relay: string, session: string): string {
  return `${relayName(relay)}~${session}`;
}

/** A session's id at its relay. */
export function sessionAtRelay(relay: string, key: string): string {
  const prefix = `${relayName(relay)}~`;
  return key.startsWith(prefix) ? key.slice(prefix.length) : key;
}

function relayName(relay: string): string {
  return relay.slice(relay.lastIndexOf("/") + 1);
}
