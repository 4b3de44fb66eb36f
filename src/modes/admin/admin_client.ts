/** An administrator's way to the API: with an API token or the proof of an identity, over TLS under the network's CA. */

import { GinnelError } from "../../base/errors.ts";
import { parseCertificatesPem } from "../../identity/certificate.ts";
import { type Identity, loadIdentity } from "../../identity/identity_file.ts";
import { createProof } from "../../identity/proof.ts";
import { readPublicFile, readSecretFile } from "../../identity/secret_file.ts";
import { findController, parseController } from "../../io/controller/find_controller.ts";
import {
  ControllerHttp,
  type ControllerRequest,
  type ControllerResponse,
} from "../../io/controller/https_client.ts";

/** What the command line says; each part may come from the identity file instead, where there is one. */
export interface AdminAccess {
  /** `NAME=URL`, or a URL alone: the name is then known from the identity file, or learnt from the controller. */
  readonly controller?: string | undefined;
  /** File with the network's CA certificates, PEM. */
  readonly ca?: string | undefined;
  /** Identity file: says where controllers are and whom to trust, and proves who asks unless there is a token. */
  readonly identity?: string | undefined;
  /** File with an API token, mode 0600. */
  readonly tokenFile?: string | undefined;
}

/** Times a request is made again that came too fast. */
const MAX_RETRIES = 5;

/** Longest wait that a controller can ask for, in seconds. */
const MAX_WAIT = 60;

/** A client of one network's API. */
export class AdminClient implements Disposable {
  readonly #http: ControllerHttp;

  private constructor(http: ControllerHttp) {
    this.#http = http;
  }

  /** Reads the files that are named; throws `ERR_ADMIN_ACCESS` when something is missing to reach a controller. */
  static async open(access: AdminAccess): Promise<AdminClient> {
    const identity = access.identity === undefined ? undefined : await loadIdentity(access.identity);
    const known = identity?.network?.controllers ?? [];
    const written = access.controller === undefined ? undefined : parseController(access.controller);
    if (written === undefined && known.length === 0) {
      throw missing("which controller", "Give --controller URL");
    }
    const roots = await rootsOf(access.ca, identity);
    const token = access.tokenFile === undefined
      ? undefined
      : (await readSecretFile(access.tokenFile)).trim();
    if (token === undefined && identity === undefined) {
      throw missing("who asks", "Give --token-file FILE, or --identity FILE of an administrator");
    }
    const controllers = written === undefined ? known : [await findController(written, { known })];
    const authorization = (audience: string) =>
      token === undefined
        ? createProof({ identity: identity!, audience, now: Date.now() })
        : Promise.resolve(token);
    return new AdminClient(
      new ControllerHttp({ controllers: () => controllers, roots: () => roots, authorization }),
    );
  }

  /** Makes a request; waits and asks again when the controller says that it came too fast. */
  async request(request: ControllerRequest): Promise<ControllerResponse> {
    for (let attempt = 0;; attempt++) {
      const answer = await this.#http.request(request);
      if (answer.status !== 429 || attempt === MAX_RETRIES) return answer;
      const seconds = Number(answer.headers["retry-after"] ?? 1);
      const wait = Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0.1), MAX_WAIT) : 1;
      await new Promise((resolve) => setTimeout(resolve, wait * 1_000));
    }
  }

  /** Ends the connections. */
  [Symbol.dispose](): void {
    this.#http[Symbol.dispose]();
  }
}

/** Says what a controller that refused has said, for a person. */
export function describeRefusal({ status, json }: ControllerResponse): string {
  const { title, detail, errors } = (json ?? {}) as {
    readonly title?: unknown;
    readonly detail?: unknown;
    readonly errors?: unknown;
  };
  const fields = Array.isArray(errors)
    ? errors.map(({ field, message }: { field?: unknown; message?: unknown }) => `${field}: ${message}`)
    : [];
  return [`${status} ${title ?? "refused"}`, ...(detail === undefined ? [] : [detail]), ...fields].join("; ");
}

async function rootsOf(file: string | undefined, identity: Identity | undefined): Promise<readonly string[]> {
  if (file !== undefined) {
    const pem = await readPublicFile(file);
    if (parseCertificatesPem(pem).length === 0) {
      throw missing(`a certificate in ${file}`, "Give the network's ca.crt");
    }
    return [pem];
  }
  if (identity !== undefined) return identity.trust.roots;
  throw missing("whom to trust", "Give --ca FILE with the network's CA certificate, or --identity FILE");
}

function missing(what: string, hint: string): GinnelError {
  return new GinnelError("ERR_ADMIN_ACCESS", `Cannot ask the controller: ${what} is missing`, { hint });
}
