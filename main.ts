/** The program: hands the command line to `src/cli` and ends with its exit code. */

import { main } from "./src/cli/main.ts";

if (import.meta.main) Deno.exit(await main(Deno.args));
