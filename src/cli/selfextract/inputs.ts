/**
 * What a self-extracting file is made from besides our own source: npm packages, each pinned by the SHA-512 of
 * its archive, so that neither a registry nor a cache can slip in another program.
 */

/** An npm package and the digest its archive must have. */
export interface PinnedPackage {
  readonly name: string;
  readonly version: string;
  /** SHA-512 of the archive, in base64, as npm writes it. */
  readonly sha512: string;
}

/** An architecture we build for. */
export interface Target {
  /** As in the file's name: `ginnel-linux-x86_64`. */
  readonly arch: "x86_64" | "aarch64";
  /** The C compiler that makes programs for it; on a machine of this architecture plain `gcc` will do. */
  readonly compiler: string;
  /** Debian's package with that compiler. */
  readonly compilerPackage: string;
  /** Deno for this architecture. */
  readonly runtime: PinnedPackage;
}

/** The architectures, by the name that `deno compile --target` and {@linkcode Target.arch} share. */
export const TARGETS: readonly Target[] = [
  {
    arch: "x86_64",
    compiler: "x86_64-linux-gnu-gcc",
    compilerPackage: "gcc-x86-64-linux-gnu",
    runtime: {
      name: "@deno/linux-x64-glibc",
      version: "2.9.5",
      sha512: "TDqcnoLe3jlgqYEQm7H7MK6q0JOth+o8iSZzknRODnVkJfPiNnjVn1M1Zc6vnp+ipkyb6Av1/CUlHgHtlq59Gw==",
    },
  },
  {
    arch: "aarch64",
    compiler: "aarch64-linux-gnu-gcc",
    compilerPackage: "gcc-aarch64-linux-gnu",
    runtime: {
      name: "@deno/linux-arm64-glibc",
      version: "2.9.5",
      sha512: "IuYjsz9PGl7CJcNXMuN27KNDB8Q40brK3SG3l+TXMDVW61ZKwcn0fQHBHnXFiiygEwI8by/fKnASEluhZB1atw==",
    },
  },
];

/** Carries the C source of zstd 1.5.7, of which the stub takes the decoder. */
export const ZSTD_SOURCE: PinnedPackage = {
  name: "zstd-napi",
  version: "0.0.13",
  sha512: "ErGF+Ko1PsbooU6oC/sc/diiWKwVa0kd/5AkFSs7kg5kwcEuOtSzOy3xUOadXQlAVNab9TxsxaUk3hOq3cj/lA==",
};
