export declare const PROTOCOL = "longspan.v1+json";
/** The edge reads no message above this (bytes of JSON). */
export declare const MAX_MESSAGE: number;
/** How deep a body may be nested. */
export declare const MAX_DEPTH = 100;
/** `log`: ordered, for everyone. `state`: ordered, and the newest of each key stays. `ephemeral`: neither. */
export type Class = "log" | "state" | "ephemeral";
/** What is published. */
export interface Message {
    topic: string;
    class: Class;
    /** `state` needs one; a label of an `ephemeral` message. */
    key?: string;
    /** `state`: only if the key is at this revision; 0: only if there is no such key. */
    if?: number;
    /** Anything JSON can say. `null` deletes a key. */
    body?: unknown;
}
/** A message of the room. */
export interface Ev {
    /** Its place in the room's one order; `ephemeral` messages have none. */
    seq?: number;
    from: string;
    /** The room's clock, ms since the Unix epoch; never decreases. */
    at: number;
    class: Class;
    topic: string;
    key?: string;
    body: unknown;
}
/** The newest message of a key. */
export interface Entry {
    /** For `if`: the place of the message that wrote it. */
    revision: number;
    from: string;
    at: number;
    topic: string;
    body: unknown;
}
/** What the edge allows a member. */
export interface Limits {
    /** Bytes of a body, measured as CBOR. */
    body: number;
    /** Messages a second in the long run. */
    rate: number;
    /** Messages at once. */
    burst: number;
    /** Messages that are not answered yet. */
    unanswered: number;
}
export interface Resume {
    seq: number;
    log: string;
}
export type ToEdge = {
    t: "hello";
    session: string;
    resume?: Resume;
} | ({
    t: "pub";
    n: number;
} & Message) | {
    t: "ping";
};
type State = Record<string, Entry>;
export type FromEdge = {
    t: "welcome";
    member: string;
    log: string;
    seq: number;
    n: number;
    state?: State;
    more: boolean;
    limits: Limits;
} | {
    t: "state";
    log: string;
    seq: number;
    state: State;
    more: boolean;
} | {
    t: "ack";
    n: number;
    seq?: number;
}
/** `skipped`: so many places among them, and before the first, are left out. */
 | {
    t: "evs";
    evs: Ev[];
    skipped: number;
} | {
    t: "gap";
    from: number;
    to: number;
    log: string;
} | {
    t: "err";
    n?: number;
    error: string;
    message: string;
    limit?: number;
} | {
    t: "goaway";
    deadline_ms: number;
    alternatives: string[];
} | {
    t: "pong";
}
/** Of a newer edge: not for us. */
 | {
    t: "unknown";
};
/** Reads what an edge said; one event is read as a batch of one. Null: it is not a message. */
export declare function parse(text: string): FromEdge | null;
/** Whether a body is nested deeper than an edge reads. */
export declare function isTooDeep(body: unknown, depth?: number): boolean;
export {};
