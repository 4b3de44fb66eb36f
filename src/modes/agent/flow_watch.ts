/**
 * Notices when the relay of running flows falls silent: something was sent through it, nothing has come back since, and
 * nothing comes for any other flow either. Then there is reason to ask it for a sign of life, without which its flows
 * would hang until QUIC's idle time-out.
 */

/** Milliseconds between looks. */
const LOOK_MS = 500;

/** Silent looks until the first question; twice as many until each further one, for flows that only ever send. */
const FIRST_LOOKS = 2;

/** Most silent looks between questions: then they cost what QUIC's keep-alive does. */
const MOST_LOOKS = 20;

/** Watches relays as long as they carry flows. */
export class FlowWatch<R> {
  readonly #onSilent: (relay: R) => void;
  readonly #watched = new Map<R, Watched>();
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(options: { readonly onSilent: (relay: R) => void }) {
    this.#onSilent = options.onSilent;
  }

  /** Begins to watch a flow of a relay. */
  enter(relay: R): FlowSigns {
    let watched = this.#watched.get(relay);
    if (watched === undefined) {
      this.#watched.set(relay, watched = { flows: new Set(), heard: false, looks: 0, patience: FIRST_LOOKS });
    }
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS);
    return new FlowSigns(watched, () => {
      if (watched.flows.size > 0) return;
      this.#watched.delete(relay);
      if (this.#watched.size === 0) this.close();
    });
  }

  /** Looks no more. */
  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #look(): void {
    for (const [relay, watched] of this.#watched) {
      const isSilent = !watched.heard && [...watched.flows].some((flow) => flow.isWaiting);
      watched.heard = false;
      if (!isSilent) {
        watched.looks = 0;
        watched.patience = FIRST_LOOKS;
      } else if (++watched.looks >= watched.patience) {
        watched.looks = 0;
        watched.patience = Math.min(2 * watched.patience, MOST_LOOKS);
        this.#onSilent(relay);
      }
    }
  }
}

/** What one flow tells of itself; each call costs next to nothing. */
export interface WatchSigns {
  spoke(): void;
  heard(): void;
  /** The flow has ended. */
  leave(): void;
}

/** Tells two watches the same. */
export class BothSigns implements WatchSigns {
  readonly #one: WatchSigns;
  readonly #other: WatchSigns;

  constructor(one: WatchSigns, other: WatchSigns) {
    this.#one = one;
    this.#other = other;
  }

  spoke(): void {
    this.#one.spoke();
    this.#other.spoke();
  }

  heard(): void {
    this.#one.heard();
    this.#other.heard();
  }

  leave(): void {
    this.#one.leave();
    this.#other.leave();
  }
}

/** What one flow tells about its relay. */
export class FlowSigns implements WatchSigns {
  /** Whether something was sent since something came. */
  isWaiting = false;
  readonly #relay: Watched;
  readonly #onLeave: () => void;

  constructor(relay: Watched, onLeave: () => void) {
    relay.flows.add(this);
    this.#relay = relay;
    this.#onLeave = onLeave;
  }

  spoke(): void {
    this.isWaiting = true;
  }

  heard(): void {
    this.isWaiting = false;
    this.#relay.heard = true;
  }

  leave(): void {
    if (this.#relay.flows.delete(this)) this.#onLeave();
  }
}

interface Watched {
  readonly flows: Set<FlowSigns>;
  /** Whether anything came since the last look. */
  heard: boolean;
  /** Silent looks in a row. */
  looks: number;
  /** Silent looks until the next question. */
  patience: number;
}
