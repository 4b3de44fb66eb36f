/** Identities of a ground whose hosts are namespaces: made by the API, enrolled by one process on one of the hosts. */

import { writeSecretFile } from "../../src/identity/secret_file.ts";

/** An identity of the network. */
export interface GroundIdentity {
  readonly id: string;
  readonly spiffeId: string;
  /** Its file. */
  readonly path: string;
}

/** One that waits to be enrolled. */
export interface InvitedDevice extends GroundIdentity {
  readonly name: string;
  readonly tokenFile: string;
}

/** Makes a resource by the API. */
type Make = (
  path: string,
  body: unknown,
) => Promise<{ readonly id: string; readonly [field: string]: unknown }>;

/** Makes an identity, and a file with a token for it. */
export async function inviteDevice(
  make: Make,
  { kind, name, folder, fields = {} }: {
    readonly kind: "relay" | "connector" | "agent";
    readonly name: string;
    readonly folder: string;
    /** Further fields of the identity. */
    readonly fields?: object;
  },
): Promise<InvitedDevice> {
  const made = await make("/identities", { name, type: kind, ...fields });
  const { token } = await make(`/identities/${made.id}/enrolments`, {});
  const tokenFile = `${folder}/${name}.token`;
  await writeSecretFile(tokenFile, String(token));
  return {
    id: made.id,
    spiffeId: String(made.spiffeId),
    path: `${folder}/${name}.identity.json`,
    name,
    tokenFile,
  };
}

/** Enrols them, all by one process, which `run` starts where the controller can be reached. */
export async function enrolDevices(
  run: (command: readonly string[]) => Promise<unknown>,
  invited: readonly InvitedDevice[],
): Promise<void> {
  const script = new URL("./enrol_devices.ts", import.meta.url).pathname;
  await run([
    ...[Deno.execPath(), "run", "--quiet", "--no-check", "--allow-all", "--unstable-net", script],
    ...invited.flatMap(({ tokenFile, path }) => [tokenFile, path]),
  ]);
}
