import assert from "node:assert/strict";
import { formatIp, parsePrefix } from "../../../src/base/ip.ts";
import type { DialableService, ServiceNetwork } from "../../../src/core/service/catalogue.ts";
import { LiveCatalogue, type ServiceViews } from "../../../src/modes/agent/live_catalogue.ts";

const NETWORK: ServiceNetwork = {
  zone: "net.example",
  ipv4: parsePrefix("10.101.0.0/16")!,
  ipv6: parsePrefix("fd00::/64")!,
};
const WEB: DialableService = {
  service: "web",
  index: 16,
  endToEnd: "required",
  connectors: [],
  idleTimeout: 120_000,
};

class Views implements ServiceViews {
  isValid = false;
  network: ServiceNetwork | undefined = NETWORK;
  services: DialableService[] = [];
  #listener: () => void = () => {};

  dialable(): readonly DialableService[] {
    return this.services;
  }

  onChange(listener: () => void): () => void {
    this.#listener = listener;
    return () => this.#listener = () => {};
  }

  change(parts: Partial<Pick<Views, "isValid" | "network" | "services">>): void {
    Object.assign(this, parts);
    this.#listener();
  }
}

Deno.test("services come and go with the views; the same rights signed anew change nothing", () => {
  const views = new Views();
  const live = new LiveCatalogue({ views, pools: {} });
  let changes = 0;
  live.onChange(() => changes++);
  assert.ok(!live.isValid);
  views.change({ isValid: true, services: [WEB] });
  assert.deepEqual(live.current?.services().map(({ name }) => name), ["web"]);
  const before = live.current;
  views.change({ services: [{ ...WEB }], network: { ...NETWORK } });
  assert.equal(live.current, before);
  assert.equal(changes, 1);
  views.change({ services: [] });
  assert.deepEqual(live.current?.services(), []);
  assert.equal(changes, 2);
  live.close();
  views.change({ services: [WEB] });
  assert.equal(changes, 2);
});

Deno.test("when the last view has ended its names stay known, and are granted no more", () => {
  const views = new Views();
  views.change({ isValid: true, services: [WEB] });
  const live = new LiveCatalogue({ views, pools: {} });
  let changes = 0;
  live.onChange(() => changes++);
  views.change({ isValid: false, services: [], network: undefined });
  assert.equal(live.isValid, false);
  assert.equal(live.current?.hasName("web.net.example"), true);
  assert.equal(changes, 1);
  views.change({ isValid: true, services: [WEB], network: NETWORK });
  assert.equal(live.isValid, true);
  assert.equal(changes, 2);
});

Deno.test("a machine's own pools take the place of the network's; a network without any has no catalogue", () => {
  const views = new Views();
  const live = new LiveCatalogue({ views, pools: { ipv4: parsePrefix("10.102.0.0/16") } });
  views.change({ isValid: true, services: [WEB] });
  const web = live.current!.byName("web")!;
  assert.equal(formatIp(web.ipv4), "10.102.0.16");
  assert.equal(formatIp(web.ipv6), "fd00::10");
  views.change({ network: undefined });
  assert.equal(live.current, undefined);
});
