/**
 * `fetch` that follows redirects only to places that it was told are ours: the runtime would follow them anywhere, by
 * the connection it has.
 */

/** How one request is sent, and where requests may go. */
export interface FetchWithinOptions {
  /** Throws for a URL that is not ours. */
  readonly assertOurs: (url: URL) => void;
  /** Sends one request, without following redirects. */
  readonly send: (request: Request) => Promise<Response>;
}

/** Redirects followed for one request, as browsers do. */
const MAX_REDIRECTS = 20;

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** Fields that say something about content, and go with it; and those that are meant for one origin only. */
const CONTENT_FIELDS = [
  "content-encoding",
  "content-language",
  "content-length",
  "content-location",
  "content-type",
];
const ORIGIN_FIELDS = ["authorization", "cookie", "proxy-authorization"];

/** Fetches within the network. */
export async function fetchWithin(request: Request, options: FetchWithinOptions): Promise<Response> {
  const { assertOurs, send } = options;
  const { redirect } = request;
  let next = request;
  for (let count = 0;; count++) {
    assertOurs(new URL(next.url));
    const { method, headers, signal } = next;
    // Kept for 307 and 308, which send it again; a stream cannot be.
    const hasBody = next.body !== null;
    const response = await send(new Request(next, { redirect: "manual" }));
    const location = response.headers.get("location");
    if (redirect === "manual" || !REDIRECTS.has(response.status) || location === null) return response;
    await response.body?.cancel();
    if (redirect === "error") {
      throw new TypeError(`Cannot follow a redirect of ${request.url} to ${location}`);
    }
    if (count >= MAX_REDIRECTS) throw new TypeError(`Cannot follow more than ${MAX_REDIRECTS} redirects`);
    const url = new URL(location, next.url);
    const becomesGet = response.status === 303
      ? method !== "GET" && method !== "HEAD"
      : response.status < 307 && method === "POST";
    if (hasBody && !becomesGet) {
      throw new TypeError(`Cannot send the content again to ${url}, where a redirect leads`);
    }
    const kept = new Headers(headers);
    if (becomesGet) { for (const name of CONTENT_FIELDS) kept.delete(name); }
    if (url.origin !== new URL(next.url).origin) { for (const name of ORIGIN_FIELDS) kept.delete(name); }
    next = new Request(url, { method: becomesGet ? "GET" : method, headers: kept, signal });
  }
}
