/** The pause after a round in which every edge failed; doubled each round, less up to a half by chance. */
export declare const PAUSE_MS = 300;
export declare const MAX_PAUSE_MS = 10000;
export declare class Rounds {
    private order;
    private index;
    /** Failures since the last success. */
    private failed;
    /** The edges there are, best first. True: the one in use is another now. */
    offer(order: readonly string[]): boolean;
    get all(): readonly string[];
    current(): string | null;
    /** It is this one's turn, if it is known; else the best one's. */
    turn(edge: string): void;
    /** It is the turn of the one after this, though it did not fail. */
    pass(edge: string): void;
    /** The one in use failed: goes on to the next, after so many ms. `chance` is in 0..1. */
    next(chance?: number): number;
    /** The one in use works. */
    good(): void;
}
