/** The C library, where it is there and may be called: what is done with it must be possible to go without. */

/** Opens libc, glibc or musl; `undefined` off Linux and without `--allow-ffi`. */
export function tryOpenLibc<const Symbols extends Deno.ForeignLibraryInterface>(
  symbols: Symbols,
): Deno.DynamicLibrary<Symbols> | undefined {
  if (Deno.build.os !== "linux") return undefined;
  if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") return undefined;
  for (const name of ["libc.so.6", `libc.musl-${Deno.build.arch}.so.1`]) {
    try {
      return Deno.dlopen(name, symbols);
    } catch {
      // The other C library's name follows.
    }
  }
  return undefined;
}
