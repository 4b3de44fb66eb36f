/**
 * Makes a self-extracting `ginnel` where `deno compile` cannot: a small static C program, the npm-distributed
 * Deno and the bundled program in one file. Started by `compile.sh`, which says what it needs.
 *
 * `deno run --allow-all src/cli/selfextract/pack.ts --target=x86_64 --output=FILE --library=SO [--level=19] ENTRY -- FLAG…`
 */

import { createHash } from "node:crypto";
import { parseArgs, promisify } from "node:util";
import { constants, zstdCompress } from "node:zlib";
import { concat, utf8 } from "../../base/bytes.ts";
import { GinnelError } from "../../base/errors.ts";
import { type PinnedPackage, type Target, TARGETS, ZSTD_SOURCE } from "./inputs.ts";

/** Archives, compressed runtimes and stubs, kept between runs; every archive is checked again at each use. */
const CACHE = ".cache/selfextract";

const FOLDER = new URL(".", import.meta.url).pathname;
const NAME_SIZE = 32;
const STUB_OPTIONS = [
  "-std=c17",
  "-O2",
  "-static",
  "-s",
  "-D_FORTIFY_SOURCE=2",
  "-fstack-protector-strong",
  "-DZSTD_DISABLE_ASM=1",
];

/** A file for the stub to unpack. */
export interface PackedFile {
  readonly name: string;
  /** One zstd frame. */
  readonly packed: Uint8Array;
  /** Length before compression. */
  readonly size: number;
}

/** Joins the stub, the files and the runtime's arguments; `stub.c` documents the layout. */
export function assemble(
  stub: Uint8Array,
  files: readonly PackedFile[],
  args: readonly string[],
): Uint8Array<ArrayBuffer> {
  let offset = stub.length;
  const index = files.map((file) => {
    const entry = new Uint8Array(NAME_SIZE + 24);
    const name = utf8(file.name);
    if (name.length >= NAME_SIZE) throw new RangeError(`Cannot pack ${file.name}: its name is too long`);
    entry.set(name);
    writeNumbers(entry, NAME_SIZE, [offset, file.packed.length, file.size]);
    offset += file.packed.length;
    return entry;
  });
  const argumentBytes = utf8(args.map((argument) => `${argument}\0`).join(""));
  const body = concat([stub, ...files.map((file) => file.packed), argumentBytes, ...index]);
  const key = utf8(createHash("sha256").update(body).digest("hex"));
  const counts = new Uint8Array(16);
  writeNumbers(counts, 0, [argumentBytes.length, files.length]);
  return concat([body, key, counts, utf8("GINNELX1")]);
}

/** Compresses one file for the stub; the frame carries a checksum. */
export async function packFile(name: string, bytes: Uint8Array, level: number): Promise<PackedFile> {
  const params = { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 };
  return { name, packed: await promisify(zstdCompress)(bytes, { params }), size: bytes.length };
}

async function main(args: readonly string[]): Promise<void> {
  const { values, positionals: [entry, ...flags] } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      target: { type: "string" },
      output: { type: "string" },
      library: { type: "string" },
      level: { type: "string", default: "19" },
    },
  });
  const target = TARGETS.find(({ arch }) => arch === values.target);
  const { output, library } = values;
  if (target === undefined || output === undefined || library === undefined || entry === undefined) {
    throw new TypeError(
      "Cannot pack: give --target=x86_64 or --target=aarch64, --output=FILE, --library=SO and the entry file",
    );
  }
  const level = Number(values.level);
  const work = await Deno.makeTempDir({ prefix: "ginnel-pack-" });
  try {
    const [runtime, program, packedLibrary, stub] = await Promise.all([
      packRuntime(target, level),
      bundle(entry, `${work}/ginnel.mjs`).then((bytes) => packFile("ginnel.mjs", bytes, level)),
      Deno.readFile(library).then((bytes) => packFile("ginnel_tun.so", bytes, level)),
      compileStub(target, work),
    ]);
    // Quiet: where a program that may be started is absent, the runtime would say so at every start.
    const run = [
      "run",
      "--quiet",
      ...flags,
      "--ext=mjs",
      "--no-config",
      "--no-lock",
      "--no-remote",
      "--no-npm",
    ];
    await writeWhole(output, assemble(stub, [runtime, program, packedLibrary], run), 0o755);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
}

async function packRuntime(target: Target, level: number): Promise<PackedFile> {
  const archive = await fetchPackage(target.runtime);
  const bytes = await run("tar", ["-xzOf", archive, "package/deno"]);
  const kept = `${CACHE}/${createHash("sha256").update(bytes).digest("hex")}-${level}.zst`;
  const cached = await readIfThere(kept);
  if (cached !== undefined) return { name: "ginnel", packed: cached, size: bytes.length };
  const file = await packFile("ginnel", bytes, level);
  await writeWhole(kept, file.packed, 0o644);
  return file;
}

async function bundle(entry: string, output: string): Promise<Uint8Array> {
  await run(Deno.execPath(), ["bundle", "--quiet", "--platform=deno", `--output=${output}`, entry]);
  return await Deno.readFile(output);
}

async function compileStub(target: Target, work: string): Promise<Uint8Array> {
  const { compiler, version } = await findCompiler(target);
  const parts = [await Deno.readTextFile(`${FOLDER}stub.c`), ZSTD_SOURCE.sha512, version, ...STUB_OPTIONS];
  const kept = `${CACHE}/${target.arch}-${
    createHash("sha256").update(JSON.stringify(parts)).digest("hex")
  }.stub`;
  const cached = await readIfThere(kept);
  if (cached !== undefined) return cached;
  await run("tar", ["-xzf", await fetchPackage(ZSTD_SOURCE), "-C", work, "package/deps/zstd/lib"]);
  const zstd = `${work}/package/deps/zstd/lib`;
  const sources = [`${FOLDER}stub.c`, ...cFiles(`${zstd}/common`), ...cFiles(`${zstd}/decompress`)];
  await run(compiler, [...STUB_OPTIONS, `-I${zstd}`, "-o", `${work}/stub`, ...sources]);
  const stub = await Deno.readFile(`${work}/stub`);
  await writeWhole(kept, stub, 0o644);
  return stub;
}

async function findCompiler(
  target: Target,
): Promise<{ readonly compiler: string; readonly version: string }> {
  const native = Deno.build.arch === target.arch ? ["gcc", "cc"] : [];
  for (const compiler of [target.compiler, ...native]) {
    const version = await run(compiler, ["--version"]).catch(() => undefined);
    if (version !== undefined) return { compiler, version: new TextDecoder().decode(version) };
  }
  throw new GinnelError(
    "ERR_PACK_NO_COMPILER",
    `No C compiler for ${target.arch}: ${target.compiler} is missing`,
    {
      hint: `apt-get install -y ${target.compilerPackage}`,
    },
  );
}

async function fetchPackage(wanted: PinnedPackage): Promise<string> {
  const file = `${wanted.name.replace(/^@/, "").replace("/", "-")}-${wanted.version}.tgz`;
  const path = `${CACHE}/${file}`;
  const kept = await readIfThere(path);
  if (kept !== undefined && digest(kept) === wanted.sha512) return path;
  const work = await Deno.makeTempDir({ prefix: "ginnel-fetch-" });
  try {
    await run("npm", ["pack", "--silent", `--pack-destination=${work}`, `${wanted.name}@${wanted.version}`]);
    const bytes = await Deno.readFile(`${work}/${file}`);
    if (digest(bytes) !== wanted.sha512) {
      throw new GinnelError(
        "ERR_PACK_DIGEST",
        `${wanted.name}@${wanted.version} is not the archive that was pinned`,
      );
    }
    await writeWhole(path, bytes, 0o644);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
  return path;
}

async function run(command: string, args: readonly string[]): Promise<Uint8Array<ArrayBuffer>> {
  const output = await new Deno.Command(command, { args: [...args], stdin: "null" }).output();
  if (output.success) return output.stdout;
  const said = new TextDecoder().decode(output.stderr).trim();
  throw new GinnelError("ERR_PACK_COMMAND", `${command} ${args[0]} failed:\n${said}`);
}

/** Writes beside the place and moves it there, so that a file is whole or absent. */
async function writeWhole(path: string, bytes: Uint8Array, mode: number): Promise<void> {
  const folder = path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : ".";
  await Deno.mkdir(folder, { recursive: true });
  const beside = await Deno.makeTempFile({ dir: folder });
  await Deno.writeFile(beside, bytes);
  await Deno.chmod(beside, mode);
  await Deno.rename(beside, path);
}

async function readIfThere(path: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    return await Deno.readFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function cFiles(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) => name.endsWith(".c"))
    .toSorted()
    .map((name) => `${folder}/${name}`);
}

function digest(bytes: Uint8Array): string {
  return createHash("sha512").update(bytes).digest("base64");
}

function writeNumbers(target: Uint8Array<ArrayBuffer>, offset: number, numbers: readonly number[]): void {
  const view = new DataView(target.buffer);
  numbers.forEach((number, position) => view.setBigUint64(offset + position * 8, BigInt(number), true));
}

if (import.meta.main) {
  try {
    await main(Deno.args);
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    if (error instanceof GinnelError && error.hint !== undefined) console.error(error.hint);
    Deno.exit(1);
  }
}
