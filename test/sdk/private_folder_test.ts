import assert from "node:assert/strict";
import { PrivateFolder } from "../../src/sdk/private_folder.ts";

Deno.test("the folder of the SDK's sockets is its user's alone, whatever the process's mask says, and goes", async () => {
  const before = Deno.umask(0);
  let path;
  try {
    await using folder = await PrivateFolder.create();
    ({ path } = folder);
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o700);
    await Deno.writeTextFile(`${path}/http.sock`, "");
  } finally {
    Deno.umask(before);
  }
  await assert.rejects(Deno.stat(path), Deno.errors.NotFound);
});
