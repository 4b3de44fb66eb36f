/** A program that captures in its own namespace until it is killed: DIRECTORY of the journal. Prints "ready". */

import { SILENT_LOGGER } from "../../../../src/base/log.ts";
import { ServiceCapture } from "../../../../src/modes/agent/capture/service_capture.ts";
import { catalogueOf, INTERFACE } from "./capture_ground.ts";

const intercept = {
  addresses: ["192.0.2.0/24"],
  portRanges: [{ low: 1, high: 65_535 }],
  protocols: ["tcp" as const],
};
await ServiceCapture.start({
  config: { interface: INTERFACE },
  allowRemoteClients: false,
  catalogue: catalogueOf([{ service: "web", intercept }]),
  ports: {
    match: () => "unknown",
    connect: () => Promise.reject(new Error("nowhere")),
    connectDatagrams: () => Promise.reject(new Error("nowhere")),
    answerDns: (query) => query,
  },
  relays: () => [{ hostname: "192.0.2.5", port: 4433 }],
  logger: SILENT_LOGGER,
  host: { directory: Deno.args[0]! },
});
console.log("ready");
