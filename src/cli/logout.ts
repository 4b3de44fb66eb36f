/** `ginnel logout`: ends a user's login, here, at the provider and at the controller. */

import { logoutUser } from "../modes/login/user_login.ts";
import type { CommandIo } from "./ca.ts";
import { execute, EXIT, type Flags, requireFlag } from "./command.ts";

const HELP = `Usage: ginnel logout --identity FILE

Ends a user's login: the controller revokes the certificate, the provider the refresh token, and FILE and FILE.login
are removed. What cannot be reached is said; the files are removed in any case.

  --identity FILE  the identity file that ginnel login wrote

Exit codes: 0 done, 1 the files are gone but something could not be revoked, 2 wrong command line or identity file.
`;

const FLAGS = { identity: "text" } as const;

/** Longest time to wait for controller and provider together, in milliseconds. */
const LOGOUT_TIMEOUT = 30_000;

/** Runs `ginnel logout ...` and returns the exit code. */
export function logoutCommand(args: string[], io: CommandIo): Promise<number> {
  return execute({ name: "logout", help: HELP, flags: FLAGS, run: logout }, args, io);
}

async function logout(flags: Flags, io: CommandIo): Promise<number> {
  const path = requireFlag(flags, "identity", "FILE");
  const signal = AbortSignal.timeout(LOGOUT_TIMEOUT);
  const { certificateRevoked, tokenRevoked } = await logoutUser(path, { signal });
  io.stdout(`Removed ${path}\n`);
  if (!certificateRevoked) {
    io.stderr(
      "ginnel logout: The controller could not revoke the certificate; it ends by itself within hours\n",
    );
  }
  if (!tokenRevoked) {
    io.stderr(
      "ginnel logout: The provider could not revoke the refresh token; end the session there if need be\n",
    );
  }
  return certificateRevoked && tokenRevoked ? EXIT.done : EXIT.failed;
}
