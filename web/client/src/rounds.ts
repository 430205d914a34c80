// The edges, in turn. Pure.

/** The pause after a round in which every edge failed; doubled each round, less up to a half by chance. */
export const PAUSE_MS = 300;
export const MAX_PAUSE_MS = 10_000;

export class Rounds {
  private order: string[] = [];
  private index = 0;
  /** Failures since the last success. */
  private failed = 0;

  /** The edges there are, best first; the turn is the first one's. */
  offer(order: string[]): void {
    this.order = [...new Set(order)];
    this.index = this.failed = 0;
  }

  get all(): readonly string[] { return this.order; }

  current(): string | null { return this.order[this.index] ?? null; }

  /** Takes its turn, if it is known. */
  turn(edge: string): void { this.index = Math.max(0, this.order.indexOf(edge)); }

  /** The turn is that of the one after this, though it did not fail. */
  pass(edge: string): void { this.index = (this.order.indexOf(edge) + 1) % Math.max(1, this.order.length); }

  /** The one whose turn it is failed: goes on to the next, after so many ms. `chance` is in 0..1. */
  next(chance: number): number {
    if (this.order.length === 0) return MAX_PAUSE_MS;
    this.index = (this.index + 1) % this.order.length;
    this.failed += 1;
    const rounds = Math.floor(this.failed / this.order.length);
    return rounds === 0 ? 0 : Math.min(PAUSE_MS * 2 ** (rounds - 1), MAX_PAUSE_MS) * (1 - chance / 2);
  }

  /** The one in use works. */
  good(): void { this.failed = 0; }
}
