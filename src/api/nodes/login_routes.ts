/** `/login/v1`: what devices call to log their users in and out. */

import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { type ApiEnv, createRouter } from "../env.ts";
import { problem, type ProblemKind, problemSchema } from "../problem.ts";
import { requireNode } from "../require_node.ts";

/** What these routes ask of the controller. */
export interface LoginPort {
  providers(): Promise<readonly z.infer<typeof Provider>[]>;
  challenge(): Promise<z.infer<typeof Challenge>>;
  login(request: z.infer<typeof Login>, context: { readonly remote: string }): Promise<LoginOutcome>;
  logout(
    request: { readonly identity: string; readonly serial: string },
    context: { readonly remote: string },
  ): Promise<void>;
}

/** A login's outcome; `reason` is one word, such as `token-expired`. */
export type LoginOutcome = { readonly ok: true } & z.infer<typeof LoggedIn> | {
  readonly ok: false;
  readonly reason: string;
};

const Provider = z.object({
  name: z.string(),
  issuer: z.string(),
  clientId: z.string(),
  scopes: z.array(z.string()).readonly(),
}).readonly().openapi("LoginProvider");

const Challenge = z.object({
  challenge: z.string().openapi({ description: "Keep it; its hash is the `nonce` for the provider" }),
  expiresAt: z.number().openapi({ description: "Milliseconds since the epoch" }),
}).readonly().openapi("LoginChallenge");

/** Longest texts, in characters; ID tokens with hundreds of groups have some 10,000. */
const MAX_TOKEN = 32_768;
const MAX_CSR = 12_000;
const MAX_CHALLENGE = 1024;

const Login = z.strictObject({
  provider: z.string().min(1).max(255),
  idToken: z.string().min(1).max(MAX_TOKEN),
  csr: z.string().min(1).max(MAX_CSR).openapi({ description: "Certificate signing request, PEM" }),
  challenge: z.string().min(1).max(MAX_CHALLENGE),
  origin: z.string().min(1).max(MAX_CHALLENGE).optional().openapi({
    description: "The first login's challenge, for an ID token that comes from a refresh",
  }),
}).openapi("Login");

const LoggedIn = z.object({
  identity: z.string().openapi({ description: "SPIFFE ID" }),
  certificate: z.string().openapi({ description: "Leaf first, PEM" }),
  notAfter: z.number().openapi({ description: "Milliseconds since the epoch" }),
  network: z.string().openapi({ description: "The signed network document" }),
}).openapi("LoggedIn");

const DETAILS: Readonly<Record<string, readonly [ProblemKind, string]>> = {
  "challenge": ["unauthenticated", "The challenge is none of this network: ask for a new one"],
  "challenge-expired": ["unauthenticated", "The login took too long: begin again"],
  "challenge-used": ["unauthenticated", "The challenge was used already: begin again"],
  "unknown-provider": ["forbidden", "There is no such provider"],
  "provider-disabled": ["forbidden", "Logins of this provider are switched off"],
  "provider-unreachable": [
    "unavailable",
    "The controller cannot get the provider's keys now: try again later",
  ],
  "token-stale": ["unauthenticated", "The ID token is older than the login: begin again"],
  "token-replayed": ["unauthenticated", "The ID token was used already: begin again"],
  "no-match": ["forbidden", "This user is admitted by none of the provider's rules: ask an administrator"],
  "user-disabled": ["forbidden", "This user is disabled: ask an administrator"],
  "user-ambiguous": ["forbidden", "Two identities claim to be this user: ask an administrator"],
  "name-taken": ["conflict", "Every name for this user is taken: ask an administrator"],
  "request": ["invalid-input", "The certificate signing request cannot be used"],
};

const PROBLEM = { content: { "application/problem+json": { schema: problemSchema } } };

/** Makes the routes; everybody may call all but the last, so mount them with rate `strict`. */
export function loginRoutes(port: LoginPort): OpenAPIHono<ApiEnv> {
  const router = createRouter();
  router.openapi(PROVIDERS, async (context) => context.json({ data: [...await port.providers()] }, 200));
  router.openapi(CHALLENGE, async (context) => context.json(await port.challenge(), 200));
  router.openapi(LOGIN, async (context) => {
    const outcome = await port.login(context.req.valid("json"), { remote: context.get("remote") });
    if (outcome.ok) {
      const { identity, certificate, notAfter, network } = outcome;
      return context.json({ identity, certificate, notAfter, network }, 200);
    }
    return refused(outcome.reason) as never;
  });
  router.openapi(LOGOUT, async (context) => {
    const { id, certificateSerial: serial } = context.get("node");
    await port.logout({ identity: id.uri, serial }, { remote: context.get("remote") });
    return context.body(null, 204);
  });
  return router;
}

function refused(reason: string): Response {
  const [kind, detail] = DETAILS[reason] ??
    ["unauthenticated", `The ID token is refused (${reason.replace(/^token-/, "")})`];
  return problem(kind, { detail, errors: [{ field: "reason", message: reason }] });
}

const PROVIDERS = createRoute({
  method: "get",
  path: "/providers",
  tags: ["login"],
  summary: "OpenID providers whose users may log in",
  responses: {
    200: {
      description: "The providers",
      content: { "application/json": { schema: z.object({ data: z.array(Provider) }) } },
    },
    429: { description: "Too many requests", ...PROBLEM },
  },
});

const CHALLENGE = createRoute({
  method: "post",
  path: "/challenge",
  tags: ["login"],
  summary: "A challenge for one login, good for ten minutes",
  responses: {
    200: { description: "The challenge", content: { "application/json": { schema: Challenge } } },
    429: { description: "Too many requests", ...PROBLEM },
  },
});

const LOGIN = createRoute({
  method: "post",
  path: "/login",
  tags: ["login"],
  summary: "An ID token and a certificate signing request for a user's certificate",
  request: { body: { required: true, content: { "application/json": { schema: Login } } } },
  responses: {
    200: { description: "Logged in", content: { "application/json": { schema: LoggedIn } } },
    400: { description: "The request is not valid", ...PROBLEM },
    401: { description: "The challenge or the ID token is refused", ...PROBLEM },
    403: { description: "This user may not log in", ...PROBLEM },
    409: { description: "Every name for this user is taken", ...PROBLEM },
    413: { description: "The request is too large", ...PROBLEM },
    429: { description: "Too many requests", ...PROBLEM },
    503: { description: "The provider cannot be reached", ...PROBLEM },
  },
});

const LOGOUT = createRoute({
  method: "post",
  path: "/logout",
  tags: ["login"],
  summary: "Revokes the certificate of the user who calls",
  security: [{ bearer: [] }],
  middleware: [requireNode({ kinds: ["user"] })] as const,
  responses: {
    204: { description: "Logged out" },
    401: { description: "No valid proof", ...PROBLEM },
    403: { description: "Not a user", ...PROBLEM },
    429: { description: "Too many requests", ...PROBLEM },
  },
});
