/** Something was not done. */
export declare class LongspanError extends Error {
    /** For programs: the edge's slug (`conflict`, `forbidden`, `too_long`, …) or one of this client's own. */
    readonly code: string;
    /** The limit that was reached; for `conflict` the revision that is held. */
    readonly limit?: number | undefined;
    /** True: it may or may not have been taken by the room. False: it was not. */
    readonly unknown: boolean;
    readonly name = "LongspanError";
    constructor(
    /** For programs: the edge's slug (`conflict`, `forbidden`, `too_long`, …) or one of this client's own. */
    code: string, message: string, 
    /** The limit that was reached; for `conflict` the revision that is held. */
    limit?: number | undefined, 
    /** True: it may or may not have been taken by the room. False: it was not. */
    unknown?: boolean);
}
