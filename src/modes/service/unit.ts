/**
 * The systemd unit of a node: a user that exists while it runs, its own folder and nothing else to write to, and of all
 * privileges only what the mode cannot do without.
 */

import type { Config } from "../../config/parse_config.ts";

/** What a unit says that differs from machine to machine. */
export interface UnitOptions {
  readonly mode: Config["mode"];
  /** Absolute path of the program. */
  readonly program: string;
  readonly needs: UnitNeeds;
}

/** What a node needs beyond sockets and its own files. */
export interface UnitNeeds {
  /** Makes TUN interfaces, routes and the like. */
  readonly network: boolean;
  /** Listens below port 1024. */
  readonly lowPorts: boolean;
}

/** What each mode is for people. */
const DESCRIPTIONS: Readonly<Record<Config["mode"], string>> = {
  agent: "Ginnel agent: the services of a private network on this machine",
  connector: "Ginnel connector: offers services of this machine, on no port of it",
  relay: "Ginnel relay: joins agents and connectors",
  controller: "Ginnel controller: identities, services and policies of a network",
};

/** The unit's name; the node's state folder has it too. */
export function unitName(mode: Config["mode"]): string {
  return `ginnel-${mode}`;
}

/** What a config asks of the machine. */
export function needsOf(config: Config): UnitNeeds {
  switch (config.mode) {
    case "agent": {
      const { tunnel, services, forwards, socks5, httpProxy } = config;
      const listeners = [...forwards.map(({ listen }) => listen), socks5, httpProxy];
      const captures = services === undefined
        ? listeners.every((it) => it === undefined)
        : services.capture !== false;
      const lowPorts = listeners.some((listen) => listen !== undefined && isLow(listen.port));
      // Without capture services are listened for on their own ports, low ones too.
      return {
        network: tunnel !== undefined || captures,
        lowPorts: lowPorts || services?.autoForward === true,
      };
    }
    case "relay": {
      const { listen, tunnel } = config;
      const ports = Object.values(listen).map((place) => place?.port ?? 65_535);
      return { network: tunnel !== undefined, lowPorts: ports.some(isLow) };
    }
    case "controller":
      return { network: false, lowPorts: isLow(config.listen.port) };
    case "connector":
      return { network: false, lowPorts: false };
  }
}

/** Writes the unit. */
export function renderUnit({ mode, program, needs }: UnitOptions): string {
  const name = unitName(mode);
  const capabilities = [
    ...(needs.network ? ["CAP_NET_ADMIN"] : []),
    ...(needs.lowPorts ? ["CAP_NET_BIND_SERVICE"] : []),
  ].join(" ");
  const devices = needs.network
    ? [
      "# /dev/net/tun, and settings such as net.ipv4.ip_forward.",
      "DevicePolicy=closed",
      "DeviceAllow=/dev/net/tun rw",
    ]
    : ["PrivateDevices=yes", "ProtectKernelTunables=yes", "PrivateUsers=yes"];
  return `# Made by \`ginnel service install\`, removed by \`ginnel service uninstall\`.
[Unit]
Description=${DESCRIPTIONS[mode]}
Documentation=man:systemd.exec(5)
Wants=network-online.target
After=network-online.target nss-lookup.target
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=${program} run --config \${STATE_DIRECTORY}/config.json
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=2s
# Flows under way get 30 s.
TimeoutStopSec=40s
LimitNOFILE=65536

# A user that is there while the node runs, and the folders it may write to.
DynamicUser=yes
StateDirectory=${name}
StateDirectoryMode=0700
CacheDirectory=${name}
CacheDirectoryMode=0700
RuntimeDirectory=ginnel/${mode}
RuntimeDirectoryMode=0700
WorkingDirectory=%S/${name}
Environment=HOME=%S/${name} XDG_CACHE_HOME=%C/${name}
UMask=0077

AmbientCapabilities=${capabilities}
CapabilityBoundingSet=${capabilities}
NoNewPrivileges=yes
${devices.join("\n")}
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectProc=invisible
ProtectControlGroups=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
# No MemoryDenyWriteExecute: the runtime compiles what it runs.
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service @pkey
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`;
}

function isLow(port: number): boolean {
  return port > 0 && port < 1_024;
}
