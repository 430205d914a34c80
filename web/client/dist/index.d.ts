import { type Phase, type RoomEvent } from "./core.js";
import { type Presence } from "./presence.js";
import { type Entry, type Message } from "./wire.js";
export type { Phase, RoomEvent } from "./core.js";
export { LongspanError } from "./error.js";
export { MAX_QUEUED, MAX_QUEUED_BYTES } from "./outbox.js";
export type { Presence } from "./presence.js";
export { MAX_DEPTH, MAX_MESSAGE, type Class, type Entry, type Ev, type Message } from "./wire.js";
/** What is used of a WebSocket; a browser's, Node's (22 and later) and that of the package `ws` have it. */
export interface Socket {
    onopen: ((event: any) => void) | null;
    onmessage: ((event: any) => void) | null;
    onclose: ((event: any) => void) | null;
    onerror: ((event: any) => void) | null;
    send(text: string): void;
    close(): void;
}
export type SocketClass = new (url: string, protocols: string[]) => Socket;
export interface Options {
    /** The edges (`https://edge-1.example`), best first. Others are gone to when one is lost. */
    urls: string[];
    room: string;
    /** The member's JWT, or what draws one: it is asked before each connection. */
    token?: string | (() => string | Promise<string>);
    /** 128 random bits as 32 hexadecimal digits, never used before; drawn if absent. */
    session?: string;
    /** Hears everything, in order. */
    onEvent?: (event: RoomEvent) => void;
    /** Where there is no global one (Node 20): the class of the package `ws`, for instance. */
    WebSocket?: SocketClass;
}
type Listener<T extends RoomEvent["type"]> = (event: Extract<RoomEvent, {
    type: T;
}>) => void;
/** Joins a room. It goes on until it is closed: whatever breaks is mended behind it. */
export declare function connect(options: Options): Client;
export declare class Client {
    private readonly options;
    private readonly core;
    private readonly sockets;
    private readonly waiting;
    private readonly listeners;
    private readonly Socket;
    private timer;
    private published;
    private isRunning;
    /** Use `connect`. */
    constructor(options: Options);
    /** The room's keyed state, as of now. */
    get state(): ReadonlyMap<string, Entry>;
    /** Who is in the room. */
    get presence(): Presence;
    /** The newest message seen. */
    get seq(): number;
    get phase(): Phase;
    /** Who the edge says this member is; null before the first welcome. */
    get member(): string | null;
    /** The edge in use. */
    get url(): string | null;
    get session(): string;
    /** Messages published and not answered yet. */
    get pending(): number;
    /**
     * Publishes; fulfilled when the message has its place in the room's order (`seq`; none if it is
     * `ephemeral`), however many connections that takes. Rejected with a `LongspanError`.
     */
    publish(message: Message): Promise<{
        seq?: number;
    }>;
    /** Hears one kind of event; call what is returned to hear it no longer. */
    on<T extends RoomEvent["type"]>(type: T, listener: Listener<T>): () => void;
    /** The edges there are now, best first. Another first one is gone to, and the one in use serves until then. */
    use(urls: string[]): void;
    /** Leaves the room. What is not answered is rejected. */
    close(): void;
    private readonly wake;
    private handle;
    private open;
    /** Leaves a connection without waiting for the other side: it may be gone. */
    private leave;
    private tell;
}
