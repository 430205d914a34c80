/** Something was not done. */
export class LongspanError extends Error {
  override readonly name = "LongspanError";

  constructor(
    /** For programs: the edge's slug (`conflict`, `forbidden`, `too_long`, …) or one of this client's own. */
    readonly code: string,
    message: string,
    /** The limit that was reached; for `conflict` the revision that is held. */
    readonly limit?: number,
    /** True: it may or may not have been taken by the room. False: it was not. */
    readonly unknown = false,
  ) {
    super(message);
  }
}
