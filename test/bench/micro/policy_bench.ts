/** Cost of a decision in a network of a thousand identities, a thousand services and five hundred policies. */

import type { PolicyDocument } from "../../../src/core/policy/document.ts";
import { compilePolicy } from "../../../src/core/policy/snapshot.ts";

const DOMAIN = "bench.example";
const GROUPS = 250;

const document: PolicyDocument = {
  identities: Array.from(
    { length: 1_000 },
    (_, i) => ({ name: `agent/agent-${i}`, roleAttributes: [`users-${i % GROUPS}`] }),
  ),
  services: Array.from(
    { length: 1_000 },
    (_, i) => ({ name: `service-${i}`, roleAttributes: [`apps-${i % GROUPS}`], endToEnd: "required" }),
  ),
  servicePolicies: Array.from({ length: GROUPS }, (_, i) => [
    {
      name: `dial-${i}`,
      type: "Dial" as const,
      identityRoles: [`#users-${i}`],
      serviceRoles: [`#apps-${i}`],
      semantic: "AnyOf" as const,
    },
    {
      name: `bind-${i}`,
      type: "Bind" as const,
      identityRoles: [`#hosts-${i}`],
      serviceRoles: [`#apps-${i}`],
      semantic: "AllOf" as const,
    },
  ]).flat(),
};
const snapshot = compilePolicy(document, { trustDomain: DOMAIN });
const id = `spiffe://${DOMAIN}/agent/agent-123`;

Deno.bench("policy: compile the document", () => {
  compilePolicy(document, { trustDomain: DOMAIN });
});
Deno.bench("policy: mayDial(), allowed", { group: "decision" }, () => {
  snapshot.mayDial(id, "service-123");
});
Deno.bench("policy: mayDial(), denied", { group: "decision" }, () => {
  snapshot.mayDial(id, "service-124");
});
Deno.bench("policy: visibleServices()", { group: "decision" }, () => {
  snapshot.visibleServices(id);
});
