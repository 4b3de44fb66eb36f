/**
 * A folder that only this user can enter, for the unix sockets between the runtime's HTTP and the network.
 */

/** Makes the folder; disposing it removes it with all that is in it. */
export class PrivateFolder implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async create(): Promise<PrivateFolder> {
    // makeTempDir gives it mode 0700; said again, since everything here rests on it.
    const path = await Deno.makeTempDir({ prefix: "ginnel-" });
    await Deno.chmod(path, 0o700);
    return new PrivateFolder(path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}
