/**
 * A SPIFFE trust domain of somebody else, with CAs of its own, and the folders in which its helper keeps a workload's
 * SVID: what SPIRE and `spiffe-helper` are to a node of ours.
 */

import { parseCertificatesPem } from "../../src/identity/certificate.ts";
import type { Identity } from "../../src/identity/identity_file.ts";
import { exportPrivateKey } from "../../src/identity/key_pair.ts";
import { importPrivateKey } from "../../src/identity/pki.ts";
import { parseWorkloadId } from "../../src/identity/spiffe_id.ts";
import { forge, type Forged } from "../identity/forge.ts";

/** An SVID as a helper writes it. */
export interface Svid {
  /** PEM. */
  readonly certificate: string;
  /** PEM, PKCS#8. */
  readonly key: string;
}

/** What to ask of a domain. */
export interface SvidOptions {
  /** Seconds from now to its end; default ten minutes. Negative: it has ended. */
  readonly seconds?: number;
  /** Who signs; default: the domain's newest CA. */
  readonly by?: Pick<Forged, "subject" | "keys">;
}

/** How a helper replaces the two files. */
export type WritingManner =
  /** Each file is made beside the old one and takes its place. */
  | "renamed"
  /** Written over, the key first, the certificate some time later. */
  | "key first"
  /** Written over, the certificate first. */
  | "certificate first";

const MINUTE_MS = 60_000;

/** One trust domain. */
export class ForeignDomain {
  readonly name: string;
  /** Oldest first. */
  readonly #cas: Forged[] = [];

  static async create(name: string): Promise<ForeignDomain> {
    const domain = new ForeignDomain(name);
    await domain.addCa();
    return domain;
  }

  private constructor(name: string) {
    this.name = name;
  }

  /** Certificates of its CAs, PEM, oldest first. */
  get roots(): readonly string[] {
    return this.#cas.map(({ pem }) => pem);
  }

  /** Makes another CA, which signs from now on. */
  async addCa(): Promise<Forged> {
    const ca = await forge({
      subject: `CN=${this.name} ${this.#cas.length + 1}`,
      ca: true,
      names: [{ type: "url", value: `spiffe://${this.name}` }],
      notBefore: Date.now() - MINUTE_MS,
      notAfter: Date.now() + 60 * MINUTE_MS,
    });
    this.#cas.push(ca);
    return ca;
  }

  /** The SPIFFE ID of a path. */
  idOf(path: string): string {
    return `spiffe://${this.name}${path}`;
  }

  /** Makes an SVID with a key of its own. */
  svid(path: string, options: SvidOptions = {}): Promise<Svid> {
    return this.svidOf(this.idOf(path), options);
  }

  /** Makes one that names anybody. */
  async svidOf(id: string, options: SvidOptions = {}): Promise<Svid> {
    const { seconds = 600, by = this.#cas.at(-1)! } = options;
    const leaf = await forge({
      subject: "C=US, O=SPIRE",
      issuer: by,
      names: [{ type: "url", value: id }],
      notBefore: Date.now() - MINUTE_MS,
      notAfter: Date.now() + seconds * 1_000,
    });
    return { certificate: leaf.pem, key: await exportPrivateKey(leaf.keys.privateKey) };
  }
}

/** The folder in which a helper keeps one workload's SVID. */
export class SvidFolder {
  readonly certificate: string;
  readonly key: string;
  readonly #folder: string;

  static async create(folder: string, svid: Svid): Promise<SvidFolder> {
    await Deno.mkdir(folder, { mode: 0o700 });
    const made = new SvidFolder(folder);
    await made.write(svid);
    return made;
  }

  private constructor(folder: string) {
    this.#folder = folder;
    this.certificate = `${folder}/svid.pem`;
    this.key = `${folder}/svid_key.pem`;
  }

  /** Puts an SVID in the present one's place. `between` is awaited when one of the two files is new and the other old. */
  async write(
    { certificate, key }: Svid,
    options: { readonly manner?: WritingManner; readonly between?: () => Promise<void> } = {},
  ): Promise<void> {
    const { manner = "renamed", between = () => Promise.resolve() } = options;
    const files: [string, string][] = [[this.key, key], [this.certificate, certificate]];
    if (manner === "certificate first") files.reverse();
    for (const [index, [path, text]] of files.entries()) {
      if (manner === "renamed") {
        const temporary = `${this.#folder}/.new-${index}`;
        await Deno.writeTextFile(temporary, text, { mode: 0o600 });
        await Deno.rename(temporary, path);
      } else await Deno.writeTextFile(path, text, { mode: 0o600 });
      if (index === 0) await between();
    }
  }
}

/** Whoever holds an SVID, as far as it takes to prove itself by it. */
export async function holderOf({ certificate, key }: Svid): Promise<Identity> {
  const chain = parseCertificatesPem(certificate);
  const holder: Pick<Identity, "id" | "chainDer" | "privateKey"> = {
    id: parseWorkloadId(chain[0]!.uriNames[0]!),
    chainDer: chain.map(({ der }) => der),
    privateKey: await importPrivateKey(key, chain[0]!),
  };
  return holder as Identity;
}
