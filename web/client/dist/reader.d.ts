import type { Entry, Ev, FromEdge, Resume } from "./wire.js";
/** What the reader tells. */
export type Told = 
/** A message of the room. */
({
    type: "ev";
} & Ev)
/** The state is another one now: the first, or the one after a gap. Read `client.state`. */
 | {
    type: "state";
    seq: number;
    log: string;
}
/** Messages `from..=to` will not come; a `state` follows. In another `log` than before, `to` is a place in the new one. */
 | {
    type: "gap";
    from: number;
    to: number;
    log: string;
};
/** What an edge never says; the connection is left. */
export declare class Broken extends Error {
}
type Said<T extends FromEdge["t"]> = Extract<FromEdge, {
    t: T;
}>;
export declare class Reader {
    /** The newest message seen. */
    seq: number;
    /** Which log places are in; null: none was seen. */
    log: string | null;
    state: ReadonlyMap<string, Entry>;
    /** Raised when places begin anew in another log. */
    logs: number;
    private gap;
    private loading;
    private held;
    /** Places that the edge left out and that were not passed yet. */
    private skipped;
    /** Where to go on; undefined: at the state as it is. */
    resume(): Resume | undefined;
    /** Whether there is a state, complete, and nothing more of it is awaited. */
    get isWhole(): boolean;
    /** Another connection speaks from now on. */
    begin(welcome: Said<"welcome">): Told[];
    missed(gap: Said<"gap">): Told[];
    /** A piece of the state. */
    piece({ log, seq, state, more }: Said<"state">): Told[];
    /** Of the messages that come next the edge left out so many. */
    skip(count: number): void;
    take(ev: Ev): Told[];
    private ordered;
    private write;
}
export {};
