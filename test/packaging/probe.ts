/** A program to pack in tests of the self-extracting file: it tells what it was started with. */

import { openTun } from "../../src/io/tun/device.ts";

const [command = "tell", ...rest] = Deno.args;

switch (command) {
  case "tell": {
    const names = ["net", "read", "write", "env", "sys", "ffi"] as const;
    const permissions = Object.fromEntries(
      names.map((name) => [name, Deno.permissions.querySync({ name }).state]),
    );
    const runtime = Deno.execPath();
    const refused = { subprocess: isRefused(() => new Deno.Command("/bin/true").outputSync()) };
    console.log(JSON.stringify({ args: rest, arch: Deno.build.arch, runtime, permissions, refused }));
    break;
  }
  case "environment":
    console.log(JSON.stringify(Deno.env.toObject()));
    break;
  case "tun":
    console.log(JSON.stringify(tryTun(rest[0] ?? "")));
    break;
  case "exit":
    Deno.exit(Number(rest[0]));
    break;
  case "term":
    Deno.addSignalListener("SIGTERM", () => Deno.exit(42));
    console.log("ready");
    await Deno.stdin.read(new Uint8Array(1));
    break;
}

function tryTun(name: string): Record<string, unknown> {
  try {
    const device = openTun({ name, mtu: 1_280 });
    const { success } = new Deno.Command("ip", { args: ["link", "set", name, "up"] }).outputSync();
    device.close();
    return { opened: device.name, children: success, runtime: Deno.execPath() };
  } catch (error) {
    const { code, message } = error as { code?: string; message: string };
    return { code, message };
  }
}

function isRefused(attempt: () => void): boolean {
  try {
    attempt();
    return false;
  } catch (error) {
    return error instanceof Deno.errors.NotCapable;
  }
}
