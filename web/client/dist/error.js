/** Something was not done. */
export class LongspanError extends Error {
    code;
    limit;
    unknown;
    name = "LongspanError";
    constructor(
    /** For programs: the edge's slug (`conflict`, `forbidden`, `too_long`, …) or one of this client's own. */
    code, message, 
    /** The limit that was reached; for `conflict` the revision that is held. */
    limit, 
    /** True: it may or may not have been taken by the room. False: it was not. */
    unknown = false) {
        super(message);
        this.code = code;
        this.limit = limit;
        this.unknown = unknown;
    }
}
