import type { Entry } from "./wire.js";
/** The topic, and the first part of the keys; members may not write there. */
export declare const PRESENCE = "presence";
export interface Presence {
    count: number;
    /** All of them by name; of more than 500 only some. */
    members: string[];
    isWhole: boolean;
    /** A second, where there are too many to name. */
    joins: number;
    leaves: number;
}
export declare function presenceOf(state: ReadonlyMap<string, Entry>): Presence;
