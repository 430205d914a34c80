// What was seen of the room: the place in its order, and the state there. Pure.
//
// Contract: `begin` with each connection, then what it says, in order. Ordered messages leave
// exactly once and without a hole, but for messages of class `state` whose key a later one writes:
// an edge leaves them out for a reader that lags. Where some are lost for good, a `gap` and a fresh
// state say so.

import type { Entry, Ev, FromEdge, Resume } from "./wire.js";

/** Messages held back while a state arrives in pieces; more, and the connection is not an edge's. */
const MAX_HELD = 4_096;

/** What the reader tells. */
export type Told =
  /** A message of the room. */
  | ({ type: "ev" } & Ev)
  /** The state is another one now: the first, or the one after a gap. Read `client.state`. */
  | { type: "state"; seq: number; log: string }
  /** Messages `from..=to` will not come; a `state` follows. In another `log` than before, `to` is a place in the new one. */
  | { type: "gap"; from: number; to: number; log: string };

/** What an edge never says; the connection is left. */
export class Broken extends Error {}

type Said<T extends FromEdge["t"]> = Extract<FromEdge, { t: T }>;

export class Reader {
  /** The newest message seen. */
  seq = 0;
  /** Which log places are in; null: none was seen. */
  log: string | null = null;
  state: ReadonlyMap<string, Entry> = new Map();
  /** Raised when places begin anew in another log. */
  logs = 0;
  private gap: Said<"gap"> | null = null;
  private loading: Map<string, Entry> | null = null;
  private held: Ev[] = [];
  /** Places that the edge left out and that were not passed yet. */
  private skipped = 0;

  /** Where to go on; undefined: at the state as it is. */
  resume(): Resume | undefined {
    return this.log === null ? undefined : { seq: this.seq, log: this.log };
  }

  /** Whether there is a state, complete, and nothing more of it is awaited. */
  get isWhole(): boolean { return this.log !== null && this.loading === null && this.gap === null; }

  /** Another connection speaks from now on. */
  begin(welcome: Said<"welcome">): Told[] {
    this.gap = this.loading = null;
    this.held = [];
    this.skipped = 0;
    if (welcome.state !== undefined) return this.piece({ ...welcome, t: "state", state: welcome.state });
    if (this.log === null) throw new Broken("a welcome without a state");
    return [];
  }

  missed(gap: Said<"gap">): Told[] {
    // Until the state is whole the place stays: a connection lost in between is told again.
    this.gap = gap;
    return [];
  }

  /** A piece of the state. */
  piece({ log, seq, state, more }: Said<"state">): Told[] {
    const entries = this.loading ??= new Map();
    for (const [key, entry] of Object.entries(state)) entries.set(key, entry);
    if (more) return [];
    const { gap, held } = this;
    this.gap = this.loading = null;
    this.held = [];
    // Two connections overlap: what the other one brought already is newer.
    if (log === this.log && seq < this.seq) return held.flatMap((ev) => this.ordered(ev));
    if (this.log !== null && log !== this.log) this.logs += 1;
    const told: Told[] = [];
    if (gap && !(log === this.log && gap.to <= this.seq)) {
      told.push({ type: "gap", from: log === this.log ? Math.max(gap.from, this.seq + 1) : gap.from, to: gap.to, log });
    }
    [this.log, this.seq, this.state] = [log, seq, entries];
    told.push({ type: "state", seq, log });
    return told.concat(held.flatMap((ev) => this.ordered(ev)));
  }

  /** Of the messages that come next the edge left out so many. */
  skip(count: number): void {
    this.skipped = this.isWhole ? count : this.skipped + count;
  }

  take(ev: Ev): Told[] {
    if (this.isWhole) return this.ordered(ev);
    if (this.held.length >= MAX_HELD) throw new Broken(`${MAX_HELD} messages came before the state was whole`);
    this.held.push(ev);
    return [];
  }

  private ordered(ev: Ev): Told[] {
    if (ev.seq === undefined) return [{ type: "ev", ...ev }];
    if (ev.seq <= this.seq) return [];
    this.skipped -= ev.seq - this.seq - 1;
    if (this.skipped < 0) throw new Broken(`message ${ev.seq} follows ${this.seq}`);
    this.seq = ev.seq;
    if (ev.class === "state" && ev.key !== undefined) this.write(ev.key, ev, ev.seq);
    return [{ type: "ev", ...ev }];
  }

  private write(key: string, { from, at, topic, body }: Ev, revision: number): void {
    const state = this.state as Map<string, Entry>;
    if (body === null) state.delete(key);
    else state.set(key, { revision, from, at, topic, body });
  }
}
