/** Files with CA certificates of others, such as a company's own for its OpenID provider: any kind of key will do. */

import { X509Certificate } from "node:crypto";
import { errorMessage } from "../base/errors.ts";
import { IdentityError } from "./errors.ts";
import { decodePem, encodePem } from "./pem.ts";
import { readPublicFile } from "./secret_file.ts";

/** Reads the CA certificates of a PEM file, one text each; refuses a file without any, or with something else in it. */
export async function readCaFile(path: string): Promise<readonly string[]> {
  const text = await readPublicFile(path);
  try {
    return decodePem("CERTIFICATE", withoutComments(text)).map((der) => {
      if (!new X509Certificate(der).ca) throw new TypeError("One of its certificates is no CA's");
      return encodePem("CERTIFICATE", der);
    });
  } catch (cause) {
    throw new IdentityError("ERR_CA_FILE", `Cannot use ${path}: ${errorMessage(cause)}`, {
      cause,
      hint: "Give a PEM file with CA certificates and nothing else",
    });
  }
}

/** Bundles name each certificate on a line before it. */
function withoutComments(text: string): string {
  const blocks = text.match(/^-----BEGIN [^-]+-----$[^-]*^-----END [^-]+-----$/gm);
  return (blocks ?? []).join("\n");
}
