import assert from "node:assert/strict";
import { makeSpiffeId } from "../../../src/identity/spiffe_id.ts";
import { controlFolders, controlName } from "../../../src/modes/shared/control_path.ts";

function foldersOf(isRoot: boolean, variables: Readonly<Record<string, string>>): readonly string[] {
  return controlFolders({ isRoot, variable: (name) => variables[name] });
}

Deno.test("the socket's folder is root's, else the user's runtime folder, else one in its home", () => {
  assert.equal(foldersOf(true, { HOME: "/root", XDG_RUNTIME_DIR: "/run/user/0" })[0], "/run/ginnel");
  const user = { HOME: "/home/u", XDG_RUNTIME_DIR: "/run/user/7" };
  assert.equal(foldersOf(false, user)[0], "/run/user/7/ginnel");
  assert.equal(foldersOf(false, { HOME: "/home/u" })[0], "/home/u/.local/state/ginnel");
  assert.equal(foldersOf(false, {})[0], "/run/ginnel");
});

Deno.test("a service of systemd uses the folder that it was given", () => {
  assert.equal(foldersOf(false, { RUNTIME_DIRECTORY: "/run/ginnel", HOME: "/" })[0], "/run/ginnel");
  assert.equal(foldersOf(true, { RUNTIME_DIRECTORY: "/run/a:/run/b" })[0], "/run/a");
});

Deno.test("root also finds the nodes that systemd runs", () => {
  const folders = foldersOf(true, {});
  for (const mode of ["agent", "connector"]) {
    const unit = Deno.readTextFileSync(
      new URL(`../../../config/systemd/ginnel-${mode}.service`, import.meta.url),
    );
    const folder = /^RuntimeDirectory=(.*)$/m.exec(unit)?.[1];
    assert.ok(folders.includes(`/run/${folder}`), `${folders} lacks /run/${folder}`);
  }
});

Deno.test("names differ by trust domain, kind and name, and leave room for their folder", () => {
  const ids = [
    makeSpiffeId({ trustDomain: "a.example", kind: "agent", name: "alice" }),
    makeSpiffeId({ trustDomain: "b.example", kind: "agent", name: "alice" }),
    makeSpiffeId({ trustDomain: "a.example", kind: "user", name: "alice" }),
    makeSpiffeId({ trustDomain: "a.example", kind: "agent", name: "a".repeat(63) }),
  ];
  const names = ids.map(controlName);
  assert.equal(new Set(names).size, ids.length);
  assert.match(names[0]!, /^agent-alice-[0-9a-f]{8}\.sock$/);
  for (const name of names) assert.ok(name.length <= 60, name);
});
