// The edges, in turn, for what needs one connection at a time. Pure.
/** The pause after a round in which every edge failed; doubled each round, less up to a half by chance. */
export const PAUSE_MS = 300;
export const MAX_PAUSE_MS = 10_000;
export class Rounds {
    order = [];
    index = 0;
    /** Failures since the last success. */
    failed = 0;
    /** The edges there are, best first. True: the one in use is another now. */
    offer(order) {
        if (order.join("\n") === this.order.join("\n"))
            return false;
        const before = this.current();
        const better = order[0] !== this.order[0];
        this.order = [...order];
        const kept = before === null ? -1 : order.indexOf(before);
        // Another best one is gone to; one that only joined or left changes nothing.
        this.index = better || kept < 0 ? 0 : kept;
        this.failed = better ? 0 : this.failed;
        return this.current() !== before;
    }
    get all() { return this.order; }
    current() { return this.order[this.index] ?? null; }
    /** It is this one's turn, if it is known; else the best one's. */
    turn(edge) { this.index = Math.max(0, this.order.indexOf(edge)); }
    /** It is the turn of the one after this, though it did not fail. */
    pass(edge) { this.index = (this.order.indexOf(edge) + 1) % Math.max(1, this.order.length); }
    /** The one in use failed: goes on to the next, after so many ms. `chance` is in 0..1. */
    next(chance = 0) {
        if (this.order.length === 0)
            return MAX_PAUSE_MS;
        this.index = (this.index + 1) % this.order.length;
        this.failed += 1;
        const rounds = Math.floor(this.failed / this.order.length);
        return rounds === 0 ? 0 : Math.min(PAUSE_MS * 2 ** (rounds - 1), MAX_PAUSE_MS) * (1 - chance / 2);
    }
    /** The one in use works. */
    good() { this.failed = 0; }
}
