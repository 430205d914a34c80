/** The pause after a round in which every edge failed; doubled each round, less up to a half by chance. */
export declare const PAUSE_MS = 300;
export declare const MAX_PAUSE_MS = 10000;
export declare class Rounds {
    private order;
    private index;
    /** Failures since the last success. */
    private failed;
    /** The edges there are, best first; the turn is the first one's. */
    offer(order: string[]): void;
    get all(): readonly string[];
    current(): string | null;
    /** Takes its turn, if it is known. */
    turn(edge: string): void;
    /** The turn is that of the one after this, though it did not fail. */
    pass(edge: string): void;
    /** The one whose turn it is failed: goes on to the next, after so many ms. `chance` is in 0..1. */
    next(chance: number): number;
    /** The one in use works. */
    good(): void;
}
