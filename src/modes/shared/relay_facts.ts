/** What is known of one relay, for `ginnel status`: since when it is connected, how far it is, why it is not. */

/** How one relay is; times are milliseconds since the epoch. Without `since` it is not connected. */
export interface RelayState {
  readonly since?: number | undefined;
  /** Milliseconds that the relay last took to answer. */
  readonly roundTrip?: number | undefined;
  /** Our address as the relay sees it. */
  readonly observed?: string | undefined;
  /** Why the last connection ended or failed. */
  readonly problem?: string | undefined;
}

/** Collects what is known. */
export class RelayFacts {
  #since: number | undefined;
  #roundTrip: number | undefined;
  #observed: string | undefined;
  #problem: string | undefined;

  connected(): void {
    this.#since = Date.now();
    this.#problem = undefined;
  }

  lost(problem: string): void {
    this.#since = undefined;
    this.#roundTrip = undefined;
    this.#problem = problem;
  }

  observed(address: string): void {
    this.#observed = address;
  }

  /** Resolves as `question` does, and keeps how long that took. */
  async measure<T>(question: () => Promise<T>): Promise<T> {
    const asked = performance.now();
    const answer = await question();
    this.#roundTrip = performance.now() - asked;
    return answer;
  }

  get state(): RelayState {
    return {
      since: this.#since,
      roundTrip: this.#roundTrip,
      observed: this.#observed,
      problem: this.#problem,
    };
  }
}
