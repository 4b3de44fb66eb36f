/**
 * A process with services' names on its machine, its resolver caught by ordinary sockets, and a name server from before:
 * for `agent_names_test.ts`, in a network and mount namespace of its own.
 */

import { parseIp, parsePrefix } from "../../../../src/base/ip.ts";
import { SILENT_LOGGER } from "../../../../src/base/log.ts";
import { ServiceCatalogue } from "../../../../src/core/service/catalogue.ts";
import { NameAddresses } from "../../../../src/core/service/name_addresses.ts";
import { HostNetwork } from "../../../../src/io/network/host_network.ts";
import { AgentNames } from "../../../../src/modes/agent/dns/agent_names.ts";

const [name = "", directory = "", resolvConf = ""] = Deno.args;
const ADDRESS = "127.0.0.77";
const BEFORE = "127.0.0.80";

const listeners = new Set<() => void>();
const services = {
  isValid: true,
  current: new ServiceCatalogue(
    [
      { service: "web", index: 16, endToEnd: "required", connectors: [], idleTimeout: 1 },
      {
        ...{ service: "db", index: 17, endToEnd: "required", connectors: [], idleTimeout: 1 },
        intercept: {
          addresses: ["*.corp.example"],
          portRanges: [{ low: 5_432, high: 5_432 }],
          protocols: ["tcp"],
        },
      },
    ],
    { zone: "ginnel.internal", ipv4: parsePrefix("10.101.0.0/16")!, ipv6: parsePrefix("fd65::/64")! },
  ),
  onChange: (listener: () => void) => {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
};

const names = new AgentNames({ services, addresses: new NameAddresses(), dns: true, logger: SILENT_LOGGER });
void serve(ADDRESS, (query) => names.answer(query, { viaTcp: false }));
// Whatever it is asked for is 192.0.2.7.
void serve(BEFORE, (query) => {
  const question = query.subarray(0, query.indexOf(0, 12) + 5);
  const answer = new Uint8Array([...question, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 192, 0, 2, 7]);
  answer.set([0x81, 0x80], 2);
  answer.set([0, 1, 0, 0, 0, 0], 6);
  return answer;
});

const network = await HostNetwork.open(name, { logger: SILENT_LOGGER, directory, resolvConf });
await names.attach({ resolver: [parseIp(ADDRESS)!], dns: network.serviceDns });
Deno.addSignalListener("SIGUSR1", () => {
  services.isValid = false;
  for (const listener of listeners) listener();
  console.log("without a view");
});
Deno.addSignalListener("SIGTERM", async () => {
  await names.close();
  await network.close();
  console.log("closed");
  Deno.exit();
});
console.log(`ready ${network.serviceDns.mode}`);

async function serve(hostname: string, answer: (query: Uint8Array) => Uint8Array | Promise<Uint8Array>) {
  const socket = Deno.listenDatagram({ transport: "udp", hostname, port: 53 });
  for await (const [query, from] of socket) {
    void Promise.resolve(answer(query.slice())).then((bytes) => socket.send(bytes, from));
  }
}
