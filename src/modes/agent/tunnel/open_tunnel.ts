/**
 * Who carries an agent's tunnel: a relay of the network, over the connection that is there anyway, or a foreign
 * RFC 9484 proxy with a connection of its own.
 */

import { readTextFile } from "../../../config/read_text_file.ts";
import { GinnelError } from "../../../base/errors.ts";
import type { Logger } from "../../../base/log.ts";
import type { AgentTunnelConfig } from "../../../config/schema/tunnel.ts";
import type { Exchange, RequestInit } from "../../../dataplane/carrier.ts";
import { QuicDialer } from "../../../io/quic/dialer.ts";
import { NameMemory } from "../../../io/system/name_memory.ts";
import { H3_NO_ERROR } from "../../../wire/h3/codes.ts";
import { ipPath } from "../../../wire/masque/uri.ts";
import type { RelayClient } from "../../shared/relay_client.ts";

/** A request that was answered, with whatever status. */
export interface OpenedTunnel {
  readonly exchange: Exchange;
  /** Lets go of what was opened for this request alone. */
  release(): void;
}

/** Opens the connect-ip request; rejects while there is nobody to ask. */
export interface TunnelOpener {
  open(signal: AbortSignal): Promise<OpenedTunnel>;
  /** Doubts that who carries the tunnel is still there: finds out, and ends the connection if not. */
  check(): void;
  /** Whether the tunnel is at somebody who takes no more work, while another would. */
  shouldMove(): boolean;
  close(): Promise<void>;
}

/** Bytes of the largest file with roots that is read. */
const MAX_ROOTS_BYTES = 1024 * 1024;

/** Opens tunnels at a relay of the network: the one that the config names, or the first that is connected. */
export function relayOpener(
  clients: () => readonly RelayClient[],
  { relay, dialect }: Pick<AgentTunnelConfig, "relay" | "dialect">,
): TunnelOpener {
  const usable = () =>
    clients().find(({ name, connection }) => connection !== undefined && name === (relay ?? name));
  let chosen: RelayClient | undefined;
  return {
    open: async (signal) => {
      chosen = usable();
      if (chosen === undefined) {
        throw new GinnelError("ERR_RELAY_DOWN", "No relay for the tunnel is connected");
      }
      const exchange = await chosen.request(requestOf(dialect, ipPath({ target: "*", ipproto: "*" })), {
        signal,
      });
      return { exchange, release: () => {} };
    },
    check: () => void chosen?.check(),
    shouldMove: () => chosen?.connection === undefined && usable() !== undefined,
    close: () => Promise.resolve(),
  };
}

/** Opens tunnels at a foreign proxy. */
export function proxyOpener(
  proxy: NonNullable<AgentTunnelConfig["proxy"]>,
  { dialect, logger }: { readonly dialect: AgentTunnelConfig["dialect"]; readonly logger: Logger },
): TunnelOpener {
  const names = new NameMemory();
  const dialer = new QuicDialer({ logger, resolve: (name) => names.lookUp(name) });
  return {
    open: async (signal) => {
      const { address, serverName, path, authorization } = proxy;
      const roots = [await readTextFile(proxy.roots, { code: "ERR_CONFIG", maxBytes: MAX_ROOTS_BYTES })];
      const connection = await dialer.dial({ address, serverName, roots, signal });
      const release = () => void connection.close(H3_NO_ERROR, "tunnel ended");
      try {
        const init = requestOf(dialect, path);
        const headers = [...init.headers ?? []];
        if (authorization !== undefined) headers.push(["authorization", authorization]);
        // RFC 9114 §4.4: a classic CONNECT, as of the older dialect, names host and port.
        const authority = dialect === "zgate" ? `${serverName}:${address.port}` : serverName;
        const exchange = await connection.request({ ...init, authority, headers }, { signal });
        return { exchange, release };
      } catch (error) {
        release();
        throw error;
      }
    },
    // What a foreign proxy makes of other requests is not known: its connection ends by itself.
    check: () => {},
    shouldMove: () => false,
    close: async () => await dialer[Symbol.asyncDispose](),
  };
}

function requestOf(dialect: AgentTunnelConfig["dialect"], path: string): Omit<RequestInit, "authority"> {
  if (dialect === "zgate") return { method: "CONNECT", headers: [["protocol", "connect-ip"]] };
  return {
    method: "CONNECT",
    protocol: "connect-ip",
    scheme: "https",
    path,
    headers: [["capsule-protocol", "?1"]],
  };
}
