// The driver of `Core`: WebSockets and timers. It decides nothing.
import { Core } from "./core.js";
import { presenceOf } from "./presence.js";
import { PROTOCOL } from "./wire.js";
export { LongspanError } from "./error.js";
export { MAX_QUEUED, MAX_QUEUED_BYTES } from "./outbox.js";
export { MAX_DEPTH, MAX_MESSAGE } from "./wire.js";
/** How long it is asked why a connection was not opened. */
const ASK_MS = 1_000;
/** Joins a room. It goes on until it is closed: whatever breaks is mended behind it. */
export function connect(options) {
    return new Client(options);
}
export class Client {
    options;
    core;
    sockets = new Map();
    waiting = new Map();
    listeners = new Map();
    Socket;
    timer;
    published = 0;
    isRunning = false;
    /** Use `connect`. */
    constructor(options) {
        this.options = options;
        const { urls, session, token } = options;
        const Socket = options.WebSocket ?? globalThis.WebSocket;
        if (!Socket)
            throw new TypeError("there is no WebSocket here; give one as the option WebSocket");
        if (urls.length === 0)
            throw new TypeError("urls names no edge");
        for (const url of urls)
            address(url, options.room);
        if (session !== undefined && !/^[0-9a-f]{32}$/i.test(session))
            throw new TypeError(`session is ${JSON.stringify(session)}, not 32 hexadecimal digits`);
        this.Socket = Socket;
        this.core = new Core({ urls: [...urls], session, canRenewToken: typeof token === "function" }, { unit: Math.random, session: draw });
        const page = globalThis;
        page.addEventListener?.("online", this.wake);
        // Whoever called has its client before it hears anything.
        queueMicrotask(() => this.handle({ on: "start" }));
    }
    /** The room's keyed state, as of now. */
    get state() { return this.core.reader.state; }
    /** Who is in the room. */
    get presence() { return presenceOf(this.core.reader.state); }
    /** The newest message seen. */
    get seq() { return this.core.reader.seq; }
    get phase() { return this.core.phase; }
    /** Who the edge says this member is; null before the first welcome. */
    get member() { return this.core.member; }
    /** The edge in use. */
    get url() { return this.core.url; }
    get session() { return this.core.session; }
    /** Messages published and not answered yet. */
    get pending() { return this.core.pending; }
    /**
     * Publishes; fulfilled when the message has its place in the room's order (`seq`; none if it is
     * `ephemeral`), however many connections that takes. Rejected with a `LongspanError`.
     */
    publish(message) {
        return new Promise((resolve, reject) => {
            const id = ++this.published;
            this.waiting.set(id, { resolve, reject });
            this.handle({ on: "publish", id, message });
        });
    }
    /** Hears one kind of event; call what is returned to hear it no longer. */
    on(type, listener) {
        const listeners = this.listeners.get(type) ?? new Set();
        this.listeners.set(type, listeners.add(listener));
        return () => void listeners.delete(listener);
    }
    /** The edges there are now, best first. Another first one is gone to, and the one in use serves until then. */
    use(urls) {
        for (const url of urls)
            address(url, this.options.room);
        this.handle({ on: "urls", urls: [...urls] });
    }
    /** Leaves the room. What is not answered is rejected. */
    close() {
        this.handle({ on: "close" });
        const page = globalThis;
        page.removeEventListener?.("online", this.wake);
    }
    wake = () => this.handle({ on: "wake" });
    handle(input) {
        this.core.handle(performance.now(), input);
        // A listener that publishes comes by here again: what it causes is done in its turn.
        if (this.isRunning)
            return;
        this.isRunning = true;
        for (let output = this.core.poll(); output !== null; output = this.core.poll()) {
            switch (output.do) {
                case "open":
                    void this.open(output.link, output.url);
                    break;
                case "send":
                    this.sockets.get(output.link)?.send(output.text);
                    break;
                case "close":
                    this.leave(output.link);
                    break;
                case "tell":
                    this.tell(output.event);
                    break;
                case "settle": {
                    const { settled } = output;
                    const promise = this.waiting.get(settled.id);
                    this.waiting.delete(settled.id);
                    if ("error" in settled)
                        promise?.reject(settled.error);
                    else
                        promise?.resolve({ ...(settled.seq !== undefined && { seq: settled.seq }) });
                }
            }
        }
        this.isRunning = false;
        clearTimeout(this.timer);
        const due = this.core.due();
        if (due < Infinity)
            this.timer = setTimeout(() => this.handle({ on: "timer" }), Math.max(0, Math.ceil(due - performance.now())));
    }
    async open(link, url) {
        this.sockets.set(link, null);
        const closed = (reason, denied) => {
            if (this.sockets.delete(link))
                this.handle({ on: "closed", link, reason, ...(denied && { denied }) });
        };
        try {
            const { token } = this.options;
            const drawn = typeof token === "function" ? await token() : token;
            if (!this.sockets.has(link))
                return;
            const where = address(url, this.options.room, drawn);
            const socket = new this.Socket(where, [PROTOCOL]);
            let isOpen = false;
            this.sockets.set(link, socket);
            socket.onopen = () => {
                isOpen = true;
                this.handle({ on: "opened", link });
            };
            socket.onmessage = ({ data }) => this.handle({ on: "text", link, text: String(data) });
            socket.onclose = ({ code, reason }) => {
                const why = `the connection was closed: ${reason || code}`;
                if (isOpen)
                    closed(why);
                else
                    void denial(where).then((denied) => closed(why, denied));
            };
            socket.onerror = () => { };
        }
        catch (error) {
            // Not in the midst of what is being done.
            queueMicrotask(() => closed(error.message));
        }
    }
    /** Leaves a connection without waiting for the other side: it may be gone. */
    leave(link) {
        const socket = this.sockets.get(link);
        this.sockets.delete(link);
        if (!socket)
            return;
        socket.onopen = socket.onmessage = socket.onclose = null;
        // `ws` throws what nobody hears.
        socket.onerror = () => { };
        socket.close();
    }
    tell(event) {
        for (const listener of [this.options.onEvent, ...this.listeners.get(event.type) ?? []]) {
            try {
                listener?.(event);
            }
            catch (error) {
                // The listener's own affair; the room goes on.
                queueMicrotask(() => { throw error; });
            }
        }
    }
}
/** Where a room's messages are at an edge. */
function address(edge, room, token) {
    let url;
    try {
        url = new URL(edge);
    }
    catch {
        throw new TypeError(`${JSON.stringify(edge)} is not the URL of an edge`);
    }
    if (!/^(https?|wss?):$/.test(url.protocol))
        throw new TypeError(`${JSON.stringify(edge)} begins with neither http nor ws`);
    const base = `${url.protocol.replace("http", "ws")}//${url.host}${url.pathname.replace(/\/$/, "")}`;
    return `${base}/rooms/${encodeURIComponent(room)}/messages?skips=1${token ? `&token=${encodeURIComponent(token)}` : ""}`;
}
/** Why a WebSocket was not opened, if it is the token: no WebSocket tells it, plain HTTP does. */
async function denial(where) {
    try {
        const answer = await fetch(where.replace(/^ws/, "http"), { signal: AbortSignal.timeout(ASK_MS) });
        const said = answer.status === 401 || answer.status === 403 ? await answer.json() : {};
        return typeof said.error === "string" ? { error: said.error, message: said.message ?? said.error } : undefined;
    }
    catch {
        return undefined;
    }
}
function draw() {
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
