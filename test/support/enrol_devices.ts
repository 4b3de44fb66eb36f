/** Enrols devices where they are, all of one run at once: pairs of TOKEN_FILE and the identity file to make. */

import { enrolDevice } from "../../src/modes/enrol/enrol_device.ts";

const TIMEOUT_MS = 30_000;

async function main(files: readonly string[]): Promise<void> {
  const pairs = files.flatMap((file, index) => index % 2 === 0 ? [[file, files[index + 1]!] as const] : []);
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  await Promise.all(pairs.map(async ([tokenFile, path]) => {
    await enrolDevice({ token: (await Deno.readTextFile(tokenFile)).trim(), path, signal });
  }));
  Deno.exit();
}

await main(Deno.args);
