/**
 * A document made from files: loaded at start, again when a file changes or on request. A broken one is reported and
 * the old one stays.
 */

import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { watchFiles } from "../../io/system/watch_files.ts";

/** What to load, and whom to tell. */
export interface WatchedDocumentOptions<T> {
  /** Names the document in the log: `policy` logs `policy_loaded` and `policy_refused`. */
  readonly name: string;
  readonly paths: readonly string[];
  readonly load: () => Promise<T>;
  readonly logger: Logger;
  /** Called after a new document took force. */
  readonly onChange: () => void;
}

/** Holds the document in force. */
export class WatchedDocument<T> {
  readonly #options: WatchedDocumentOptions<T>;
  readonly #stopWatching: () => void;
  #value: T;
  #reloading: Promise<void> = Promise.resolve();

  private constructor(options: WatchedDocumentOptions<T>, value: T) {
    this.#options = options;
    this.#value = value;
    this.#stopWatching = watchFiles(options.paths, () => void this.reload());
  }

  /** Loads the document; rejects when it is broken, since there is no old one to keep. */
  static async open<T>(options: WatchedDocumentOptions<T>): Promise<WatchedDocument<T>> {
    return new WatchedDocument(options, await loadLogged(options));
  }

  get value(): T {
    return this.#value;
  }

  /** Reads the files again; a broken one changes nothing but the log. */
  reload(): Promise<void> {
    this.#reloading = this.#reloading.then(async () => {
      const { name, logger, onChange } = this.#options;
      try {
        this.#value = await loadLogged(this.#options);
      } catch (error) {
        logger.error(`${name}_refused`, {
          detail: errorMessage(error),
          kept: `the ${name} in force before`,
        });
        return;
      }
      onChange();
    });
    return this.#reloading;
  }

  close(): void {
    this.#stopWatching();
  }
}

async function loadLogged<T>({ name, paths, load, logger }: WatchedDocumentOptions<T>): Promise<T> {
  const value = await load();
  logger.info(`${name}_loaded`, { files: paths });
  return value;
}
