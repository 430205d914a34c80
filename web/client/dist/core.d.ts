import { LongspanError } from "./error.js";
import { type Settled } from "./outbox.js";
import { type Presence } from "./presence.js";
import { Reader, type Told } from "./reader.js";
import { type Message } from "./wire.js";
/** A connection that is not open, or not welcomed, within this is left. The edge says why after 3 s. */
export declare const OPEN_MS = 3000;
export declare const WELCOME_MS = 5000;
/** How often a quiet connection is asked whether it is there; sooner where a message waits for its answer. */
export declare const PING_MS = 2000;
export declare const WAIT_MS = 1000;
/** Without an answer for so long the next connection is begun beside it, and for so long it is left. */
export declare const SUSPECT_MS = 700;
export declare const ANSWER_MS = 2000;
/** A connection that was good for less counts as a failure, so that a pause follows a few of them. */
export declare const STABLE_MS = 5000;
export type Input = {
    on: "start";
} | {
    on: "opened";
    link: number;
} | {
    on: "text";
    link: number;
    text: string;
}
/** `denied`: the edge does not let the member in, and says why. */
 | {
    on: "closed";
    link: number;
    reason: string;
    denied?: {
        error: string;
        message: string;
    };
} | {
    on: "publish";
    id: number;
    message: Message;
}
/** The edges there are now, best first: another first one is gone to. */
 | {
    on: "urls";
    urls: string[];
}
/** The network is back, or the page is seen again: do not wait. */
 | {
    on: "wake";
} | {
    on: "timer";
} | {
    on: "close";
};
export type Output = {
    do: "open";
    link: number;
    url: string;
} | {
    do: "send";
    link: number;
    text: string;
} | {
    do: "close";
    link: number;
} | {
    do: "tell";
    event: RoomEvent;
} | {
    do: "settle";
    settled: Settled;
};
export type Phase = "connecting" | "open" | "reconnecting" | "closed";
export type RoomEvent = Told | {
    type: "status";
    phase: Phase;
    url: string | null;
    member: string | null;
    error: LongspanError | null;
}
/** The edge in use asks to go elsewhere; the client does. */
 | {
    type: "goaway";
    deadlineMs: number;
    alternatives: string[];
}
/** Who is in the room is another now; after the `ev` or `state` that says so. */
 | {
    type: "presence";
    presence: Presence;
}
/** Something that is no message's: the room does not answer yet, the session is over, … */
 | {
    type: "error";
    error: LongspanError;
};
/** Where chance comes from: a number in 0..1, and 128 bits as 32 hexadecimal digits. */
export interface Chance {
    unit(): number;
    session(): string;
}
export interface Config {
    urls: string[];
    session?: string;
    /** A token that is over can be drawn anew: an end by `token_expired` is not the end. */
    canRenewToken?: boolean;
}
export declare class Core {
    private readonly config;
    private readonly chance;
    readonly reader: Reader;
    session: string;
    member: string | null;
    phase: Phase;
    private readonly outbox;
    private readonly rounds;
    private readonly outputs;
    /** The edges as they were offered last. */
    private offered;
    private links;
    /** Logs of the reader that the session was of. */
    private logs;
    private active;
    private trial;
    /** Why the one in use is to be replaced while it goes on: another is better, or it does not answer. */
    private moving;
    private seekAt;
    /** Edges that did not let the member in, one after the other. */
    private denials;
    private now;
    constructor(config: Config, chance: Chance);
    /** Messages that are not answered yet. */
    get pending(): number;
    /** The edge in use. */
    get url(): string | null;
    handle(now: number, input: Input): void;
    poll(): Output | null;
    /** When a `timer` is to be handled. */
    due(): number;
    private get isOpen();
    private link;
    /** Opens a connection if one is wanted and none is on its way. */
    private seek;
    private offer;
    private wake;
    private opened;
    private heard;
    private said;
    private welcomed;
    private loaded;
    private goAway;
    private troubled;
    private refused;
    /** Begins a session anew, on a connection of its own; what was seen of the room stays. */
    private renew;
    private publish;
    private flush;
    private expire;
    /** The token does not open the room here. One edge may be wrong about it; all of them are not. */
    private denied;
    /** It does not answer: whichever does first, it or the next edge, is in use then. */
    private suspect;
    /** It is there after all. */
    private trust;
    private lost;
    /** The next edge has its turn. */
    private again;
    private end;
    private status;
    private say;
    private tell;
    private settle;
    private refuse;
}
