/** One description of everything that can be set up at once, for the tests and the process they kill. */

import type { HostNetwork } from "../../../src/io/network/host_network.ts";
import { ip, prefix } from "./values.ts";

/** Uses every part of the set-up. */
export async function setUpAll(network: HostNetwork): Promise<void> {
  const addresses = [
    { address: ip("10.100.0.1"), prefixLength: 24 },
    { address: ip("fd10::1"), prefixLength: 64 },
  ];
  const relays = [{ address: ip("192.0.2.5"), port: 443 }, { address: ip("fd99::5"), port: 443 }];
  await network.interface.apply({ addresses, mtu: 1_300, up: true });
  await network.killSwitch.apply({ routes: "full", relays });
  await network.routes.apply(
    ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"].map(prefix),
    relays.map(({ address }) => address),
  );
  await network.nat.apply({
    mode: "masquerade",
    pools: [prefix("10.100.0.0/24"), prefix("fd10::/64")],
    gateways: addresses.map(({ address }) => address),
  });
  await network.dns.apply([ip("10.100.0.53")]);
}
