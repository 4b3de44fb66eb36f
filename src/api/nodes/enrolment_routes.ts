/** `/enrolment/v1`: what devices call to get their first certificate, and the next ones. */

import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import type { VerifiedProof } from "../../identity/proof.ts";
import { type ApiEnv, createRouter } from "../env.ts";
import { problem, type ProblemKind, problemSchema } from "../problem.ts";
import { requireNode } from "../require_node.ts";

/** What these routes ask of the controller. */
export interface EnrolmentPort {
  enrol(
    request: { readonly token: string; readonly csr: string },
    context: { readonly remote: string },
  ): Promise<EnrolmentOutcome>;
  renew(
    proof: VerifiedProof,
    request: { readonly csr: string },
    context: { readonly remote: string },
  ): Promise<EnrolmentOutcome>;
  /** CA certificates, PEM, the issuing one first. */
  roots(): readonly string[];
  /** The signed network document. */
  network(): Promise<string>;
  /** Names of the services an identity (a SPIFFE ID) may reach, and may offer. */
  rights(identity: string): { readonly dial: readonly string[]; readonly bind: readonly string[] };
}

/** A certificate, or why there is none; `reason` is one word, such as `token-used`. */
export type EnrolmentOutcome = { readonly ok: true } & z.infer<typeof Enrolled> | {
  readonly ok: false;
  readonly reason: string;
  readonly detail: string;
};

/** Longest texts, in characters; what they hold is bounded again where it is read. */
const MAX_TOKEN = 8192;
const MAX_CSR = 8192;

const Csr = z.string().min(1).max(MAX_CSR).openapi({ description: "Certificate signing request, PEM" });
const Enrol = z.strictObject({ token: z.string().min(1).max(MAX_TOKEN), csr: Csr }).openapi("Enrol");
const Renew = z.strictObject({ csr: Csr }).openapi("Renew");

const Enrolled = z.object({
  identity: z.string().openapi({ description: "SPIFFE ID" }),
  certificate: z.string().openapi({ description: "Leaf first, PEM" }),
  notAfter: z.number().openapi({ description: "Milliseconds since the epoch" }),
  network: z.string().openapi({ description: "The signed network document" }),
}).openapi("Enrolled");

const Roots = z.object({ roots: z.array(z.string()) }).openapi("TrustBundle");
const Rights = z.object({ dial: z.array(z.string()), bind: z.array(z.string()) }).openapi("OwnRights");
const Network = z.object({ network: z.string() }).openapi("SignedNetworkDocument");

const KINDS: Readonly<Record<string, ProblemKind>> = {
  "token": "unauthenticated",
  "token-used": "unauthenticated",
  "token-unknown": "unauthenticated",
  "csr": "invalid-input",
  "certificate-revoked": "unauthenticated",
};

const PROBLEM = { content: { "application/problem+json": { schema: problemSchema } } };
const REFUSALS = {
  400: { description: "The request cannot be used", ...PROBLEM },
  401: { description: "The token or proof is refused", ...PROBLEM },
  403: { description: "The identity is disabled or gone", ...PROBLEM },
  429: { description: "Too many requests", ...PROBLEM },
} as const;

/** Makes the routes; everybody may call some of them, so mount them with rate `strict`. */
export function enrolmentRoutes(port: EnrolmentPort): OpenAPIHono<ApiEnv> {
  const router = createRouter();
  router.openapi(ENROL, async (context) => {
    const outcome = await port.enrol(context.req.valid("json"), { remote: context.get("remote") });
    return outcome.ok ? context.json(present(outcome), 200) : refused(outcome) as never;
  });
  router.openapi(RENEW, async (context) => {
    const remote = context.get("remote");
    const outcome = await port.renew(context.get("node"), context.req.valid("json"), { remote });
    return outcome.ok ? context.json(present(outcome), 200) : refused(outcome) as never;
  });
  router.openapi(CA, (context) => context.json({ roots: [...port.roots()] }, 200));
  router.openapi(RIGHTS, (context) => {
    // Of the caller alone, as its proof says: nobody learns what another may see.
    const { dial, bind } = port.rights(context.get("node").id.uri);
    return context.json({ dial: [...dial], bind: [...bind] }, 200);
  });
  router.openapi(NETWORK, async (context) => context.json({ network: await port.network() }, 200));
  return router;
}

function present({ identity, certificate, notAfter, network }: z.infer<typeof Enrolled>) {
  return { identity, certificate, notAfter, network };
}

function refused(
  { reason, detail }: { readonly reason: string; readonly detail: string },
): Response {
  const kind = KINDS[reason] ?? "forbidden";
  return problem(kind, { detail, errors: [{ field: "reason", message: reason }] });
}

const ENROL = createRoute({
  method: "post",
  path: "/enrol",
  tags: ["enrolment"],
  summary: "Turn a one-time token and a signing request into a certificate",
  request: { body: { required: true, content: { "application/json": { schema: Enrol } } } },
  responses: {
    200: { description: "The certificate", content: { "application/json": { schema: Enrolled } } },
    ...REFUSALS,
  },
});

const RENEW = createRoute({
  method: "post",
  path: "/renew",
  tags: ["enrolment"],
  summary: "Turn a proof and a signing request into the caller's next certificate",
  middleware: [requireNode()] as const,
  request: { body: { required: true, content: { "application/json": { schema: Renew } } } },
  responses: {
    200: { description: "The certificate", content: { "application/json": { schema: Enrolled } } },
    ...REFUSALS,
  },
});

const CA = createRoute({
  method: "get",
  path: "/ca",
  tags: ["enrolment"],
  summary: "CA certificates of the network, the issuing one first; believe them only by their fingerprints",
  responses: {
    200: { description: "The CAs", content: { "application/json": { schema: Roots } } },
    429: REFUSALS[429],
  },
});

const NETWORK = createRoute({
  method: "get",
  path: "/network",
  tags: ["enrolment"],
  summary: "What all nodes know of the network, signed by its authority",
  middleware: [requireNode()] as const,
  responses: {
    200: { description: "The document", content: { "application/json": { schema: Network } } },
    401: REFUSALS[401],
    429: REFUSALS[429],
  },
});

const RIGHTS = createRoute({
  method: "get",
  path: "/rights",
  tags: ["enrolment"],
  summary: "The services the caller may reach, and may offer",
  middleware: [requireNode()] as const,
  responses: {
    200: { description: "Names of services", content: { "application/json": { schema: Rights } } },
    401: REFUSALS[401],
    429: REFUSALS[429],
  },
});
