// Which edge feeds the player, and when another one shall. Pure: time is an argument, in ms.
//
// Tell it what happens (`offer`, `fed`, `lost`, `healthy`), then take what to do from `poll` until
// null, and poll again at `due()`.
//
// Make before break: another edge is connected beside the one in use, which is left when the other
// has delivered something newer. Whichever delivers first wins, the old one too if it comes back.

/** An edge that sent nothing for this long is not waited for any more: fragments come every 20 ms
 *  or so; a reroute inside the backbone takes 100 to 300 ms and shall not scatter viewers. */
export const SILENCE_MS = 450;
/** The next edge is tried beside one that did not deliver for so long (compare RFC 8305 §5). */
export const STAGGER_MS = 500;
/** An attempt that did not deliver for so long is given up. A cold edge needs two round trips of
 *  the path. */
export const ATTEMPT_MS = 3_000;
/** Attempts side by side, beside the edge in use. */
export const MAX_ATTEMPTS = 2;
/** An edge is not tried again sooner after it was tried. */
export const RETRY_MS = 1_000;
/** A connection that was silent for so long is made anew: it may be what is broken. */
export const STALE_MS = 6_000;
/** An edge that failed comes last for this long; doubled each time it fails again, at most
 *  MAX_PENALTY_MS; forgotten after GOOD_MS of feeding. */
export const PENALTY_MS = 5_000;
export const MAX_PENALTY_MS = 300_000;
export const GOOD_MS = 60_000;
/** How often the wanted edge is looked at while another feeds. The player goes back to it once it
 *  has been healthy for HOME_MS, and for as long as its penalty. */
export const PROBE_MS = 2_000;
export const HOME_MS = 10_000;

export type Action =
  | { do: "connect"; edge: string }
  /** Leave a connection. */
  | { do: "drop"; edge: string }
  /** This edge feeds from now on; all other connections are to be dropped. */
  | { do: "use"; edge: string; from: string | null; why: string }
  /** Ask whether it is healthy; answer with `healthy`. */
  | { do: "probe"; edge: string };

interface Attempt { since: number; why: string }
interface Fault { penalty: number; until: number; good: number | null }

const BACK = "healthy again";
const CHOSEN = "chosen";

export class Failover {
  private order: string[] = [];
  private wanted: string | null = null;
  private active: string | null = null;
  /** Why the connection of the edge in use is no more; null while there is one. */
  private broken: string | null = null;
  private heard = 0;
  private polled = 0;
  private attempts = new Map<string, Attempt>();
  private tried = new Map<string, number>();
  private faults = new Map<string, Fault>();
  private probeAt = 0;
  private healthySince: number | null = null;
  private actions: Action[] = [];

  /** The edge in use. */
  get edge(): string | null { return this.active; }

  /** The edges there are, best first for who wants `wanted`. */
  offer(now: number, wanted: string, others: string[]): void {
    this.order = [wanted, ...others.filter((edge) => edge !== wanted)];
    for (const edge of [...this.attempts.keys()]) if (!this.order.includes(edge)) this.drop(edge);
    if (wanted === this.wanted) return;
    this.wanted = wanted;
    this.away(now);
    for (const edge of [...this.attempts.keys()]) this.drop(edge);
    if (this.active === wanted && this.broken === null) return;
    // The user's wish: nothing that was speaks against it.
    this.faults.delete(wanted);
    this.attempt(now, wanted, CHOSEN);
  }

  /** All is to be left: another programme, or none. What edges did is remembered. */
  reset(): void {
    this.order = [];
    this.wanted = this.active = this.broken = null;
    this.attempts.clear();
    this.tried.clear();
    this.actions = [];
  }

  /** Media came from an edge; `newer`: later than what the edge in use delivered. */
  fed(now: number, edge: string, newer: boolean): void {
    if (edge === this.active && this.broken === null) {
      this.heard = now;
      const fault = this.faults.get(edge);
      if (fault && now - (fault.good ??= now) >= GOOD_MS) this.faults.delete(edge);
      return;
    }
    const attempt = this.attempts.get(edge);
    if (!attempt || !newer) return;
    const from = this.active;
    const forced = attempt.why !== BACK && attempt.why !== CHOSEN;
    if (forced && from !== null && from !== edge && this.broken === null) this.fail(now, from);
    this.attempts.clear();
    this.active = edge;
    this.broken = null;
    this.heard = now;
    this.away(now);
    this.actions = [{ do: "use", edge, from, why: from === null ? "" : attempt.why }];
  }

  /** A connection was refused or broke. */
  lost(now: number, edge: string, why: string): void {
    if (this.attempts.delete(edge)) this.fail(now, edge);
    else if (edge === this.active && this.broken === null) {
      this.fail(now, edge);
      this.broken = why;
    }
  }

  /** The answer to a probe. */
  healthy(now: number, edge: string, is: boolean): void {
    if (edge !== this.wanted || edge === this.active) return;
    this.healthySince = is ? this.healthySince ?? now : null;
  }

  poll(now: number): Action | null {
    this.giveUp(now);
    if (this.silent(now)) this.seek(now);
    else this.home(now);
    return this.actions.shift() ?? null;
  }

  /** When to poll again, at the latest. */
  due(): number {
    const times = [...this.attempts.values()].flatMap(({ since }) => [since + STAGGER_MS, since + ATTEMPT_MS]);
    if (this.active !== null && this.broken === null) times.push(this.heard + SILENCE_MS, this.heard + STALE_MS);
    else times.push(...this.order.map((edge) => (this.tried.get(edge) ?? 0) + RETRY_MS));
    if (this.active !== this.wanted) times.push(this.probeAt);
    return Math.min(...times.filter((time) => time > this.polled), Infinity);
  }

  /** Attempts that took too long, or that nobody needs any more; a connection that went stale. */
  private giveUp(now: number): void {
    this.polled = now;
    const silent = this.silent(now);
    for (const [edge, { since, why }] of [...this.attempts]) {
      const voluntary = why === BACK || why === CHOSEN;
      if (!silent && !voluntary) this.drop(edge);
      else if (now - since >= ATTEMPT_MS) {
        this.drop(edge);
        // Where nothing comes from anywhere it is not this edge's fault.
        if (this.active === null || !silent) this.fail(now, edge);
      }
    }
    if (this.active !== null && this.broken === null && now - this.heard >= STALE_MS) {
      this.broken = `silence ${Math.round(now - this.heard)} ms`;
      this.actions.push({ do: "drop", edge: this.active });
    }
  }

  /** Nothing comes: tries the best edge that is not being tried, those that failed lately last. */
  private seek(now: number): void {
    const newest = Math.max(-Infinity, ...[...this.attempts.values()].map(({ since }) => since));
    if (this.attempts.size >= MAX_ATTEMPTS || now - newest < STAGGER_MS) return;
    const tried = (edge: string) => this.tried.get(edge) ?? -Infinity;
    const until = (edge: string) => {
      const fault = this.faults.get(edge);
      return fault && fault.until > now ? fault.until : 0;
    };
    const [best] = this.order
      .filter((edge) => !this.attempts.has(edge) && now - tried(edge) >= RETRY_MS)
      .filter((edge) => edge !== this.active || this.broken !== null)
      .sort((a, b) => until(a) - until(b) || Math.sign(tried(a) - tried(b)) || 0);
    if (best !== undefined) this.attempt(now, best, this.broken ?? `silence ${Math.round(now - this.heard)} ms`);
  }

  /** Goes back to the wanted edge once it has been healthy long enough. */
  private home(now: number): void {
    const wanted = this.wanted;
    if (wanted === null || this.active === wanted) return;
    if (now >= this.probeAt) {
      this.probeAt = now + PROBE_MS;
      this.actions.push({ do: "probe", edge: wanted });
    }
    const enough = Math.max(HOME_MS, this.faults.get(wanted)?.penalty ?? 0);
    if (this.healthySince === null || now - this.healthySince < enough || this.attempts.size) return;
    this.healthySince = null;
    this.attempt(now, wanted, BACK);
  }

  private away(now: number): void {
    this.healthySince = null;
    this.probeAt = now + PROBE_MS;
  }

  private silent(now: number): boolean {
    return this.wanted !== null && (this.active === null || this.broken !== null || now - this.heard >= SILENCE_MS);
  }

  private attempt(now: number, edge: string, why: string): void {
    this.attempts.set(edge, { since: now, why });
    this.tried.set(edge, now);
    this.actions.push({ do: "connect", edge });
  }

  private drop(edge: string): void {
    if (this.attempts.delete(edge)) this.actions.push({ do: "drop", edge });
  }

  private fail(now: number, edge: string): void {
    const known = this.faults.get(edge);
    const penalty = Math.min(known ? known.penalty * 2 : PENALTY_MS, MAX_PENALTY_MS);
    this.faults.set(edge, { penalty, until: now + penalty, good: null });
  }
}
