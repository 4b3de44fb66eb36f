import assert from "node:assert/strict";
import { parsePrefix } from "../../../src/base/ip.ts";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import type { DialableService } from "../../../src/core/service/catalogue.ts";
import { ResolverLayers } from "../../../src/io/network/resolver_layers.ts";
import { RouteSiblings } from "../../../src/io/network/route_siblings.ts";
import { LiveCatalogue } from "../../../src/modes/agent/live_catalogue.ts";
import { LocalServices } from "../../../src/modes/agent/local_services.ts";
import { NEEDS, onGround } from "../../io/network/ground.ts";
import { eventually } from "../../support/eventually.ts";
import { needsTun, testNeeding } from "../../support/require_tool.ts";

const WEB: DialableService = {
  service: "web",
  index: 16,
  endToEnd: "required",
  connectors: [],
  idleTimeout: 120_000,
};

testNeeding(
  [...NEEDS, needsTun()],
  "a list of services that comes while capture opens its interface is captured too",
  () =>
    onGround(async () => {
      let heard = () => {};
      const services: DialableService[] = [];
      const catalogue = new LiveCatalogue({
        views: {
          get isValid() {
            return services.length > 0;
          },
          network: {
            zone: "net.example",
            ipv4: parsePrefix("10.101.0.0/16")!,
            ipv6: parsePrefix("fd12:3456:789a:1::/64")!,
          },
          dialable: () => services,
          onChange: (listener) => {
            heard = listener;
            return () => {};
          },
        },
        pools: {},
      });
      const starting = LocalServices.start({
        config: { capture: true, interface: "ginnel1", dns: "serve", autoForward: false },
        allowRemoteClients: false,
        catalogue,
        connect: () => Promise.reject(new Error("nowhere")),
        connectDatagrams: () => Promise.reject(new Error("nowhere")),
        relays: () => [],
        trustDomain: "test.example",
        shared: { resolverLayers: new ResolverLayers(), routeSiblings: new RouteSiblings() },
        logger: SILENT_LOGGER,
      });
      services.push(WEB);
      heard();
      const local = await starting;
      try {
        await eventually(() => local.status().capture?.detail?.startsWith("ginnel1: 10.101.0.0/16"));
      } finally {
        await local.close();
        catalogue.close();
      }
      assert.equal(local.status().capture?.detail, "waits for the list of services");
    }),
);
