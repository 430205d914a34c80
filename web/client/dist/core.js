// A member of a room: which connection is in use, and what is said on it. Pure.
//
// Contract: `handle(now, input)` whatever happens, then `poll()` until it gives null, and `handle`
// a `timer` at `due()`. Times are ms of a clock that never goes back; chance comes from `Chance`.
// At most two connections are there at once: the one in use, and the one that is to take over.
import { LongspanError } from "./error.js";
import { Outbox } from "./outbox.js";
import { PRESENCE, presenceOf } from "./presence.js";
import { Broken, Reader } from "./reader.js";
import { Rounds } from "./rounds.js";
import { parse } from "./wire.js";
/** A connection that is not open, or not welcomed, within this is left. The edge says why after 3 s. */
export const OPEN_MS = 3_000;
export const WELCOME_MS = 5_000;
/** How often a quiet connection is asked whether it is there; sooner where a message waits for its answer. */
export const PING_MS = 2_000;
export const WAIT_MS = 1_000;
/** Without an answer for so long the next connection is begun beside it, and for so long it is left. */
export const SUSPECT_MS = 700;
export const ANSWER_MS = 2_000;
/** A connection that was good for less counts as a failure, so that a pause follows a few of them. */
export const STABLE_MS = 5_000;
/** What an edge that goes away may add to the edges known; the others are ignored. */
const MAX_ALTERNATIVES = 16;
export class Core {
    config;
    chance;
    reader = new Reader();
    session;
    member = null;
    phase = "connecting";
    outbox = new Outbox();
    rounds = new Rounds();
    outputs = [];
    /** The edges as they were offered last. */
    offered = "";
    links = 0;
    /** Logs of the reader that the session was of. */
    logs = 0;
    active = null;
    trial = null;
    /** Why the one in use is to be replaced while it goes on: another is better, or it does not answer. */
    moving = null;
    seekAt = 0;
    /** Edges that did not let the member in, one after the other. */
    denials = 0;
    now = 0;
    constructor(config, chance) {
        this.config = config;
        this.chance = chance;
        this.session = config.session ?? chance.session();
        const urls = config.urls.map(plain);
        this.offered = urls.join("\n");
        this.rounds.offer(urls);
    }
    /** Messages that are not answered yet. */
    get pending() { return this.outbox.length; }
    /** The edge in use. */
    get url() { return this.active?.url ?? null; }
    handle(now, input) {
        this.now = Math.max(now, this.now);
        if (this.phase === "closed") {
            if (input.on === "publish")
                this.refuse(input.id, closed());
            return;
        }
        switch (input.on) {
            case "start": break;
            case "opened":
                this.opened(this.link(input.link));
                break;
            case "text":
                this.heard(this.link(input.link), input.text);
                break;
            case "closed": {
                const link = this.link(input.link);
                if (link && input.denied)
                    this.denied(link, input.denied);
                else if (link)
                    this.lost(link, link.error ?? new LongspanError("connection_lost", input.reason || "the connection was lost"));
                break;
            }
            case "publish":
                this.publish(input.id, input.message);
                break;
            case "urls":
                this.offer(input.urls.map(plain));
                break;
            case "wake":
                this.wake();
                break;
            case "timer":
                this.expire();
                break;
            case "close":
                this.end(null);
                return;
        }
        this.seek();
        this.flush();
    }
    poll() { return this.outputs.shift() ?? null; }
    /** When a `timer` is to be handled. */
    due() {
        if (this.phase === "closed")
            return Infinity;
        const links = [this.active, this.trial].map((link) => link?.deadline ?? Infinity);
        const seeks = this.trial || (this.active && this.moving === null) ? Infinity : this.seekAt;
        return Math.min(...links, seeks, this.isOpen ? this.outbox.due() : Infinity);
    }
    get isOpen() { return this.active !== null && this.reader.log !== null; }
    link(id) { return [this.active, this.trial].find((link) => link?.id === id) ?? null; }
    /** Opens a connection if one is wanted and none is on its way. */
    seek() {
        if (this.trial || (this.active && this.moving === null) || this.now < this.seekAt)
            return;
        let url = this.rounds.current();
        if (this.active && url === this.active.url) {
            if (!this.active.isLeaving || this.rounds.all.length < 2) {
                // Nothing else is left to go to.
                this.moving = null;
                return;
            }
            const pause = this.rounds.next(this.chance.unit());
            if (pause > 0) {
                this.seekAt = this.now + pause;
                return;
            }
            url = this.rounds.current();
        }
        if (url === null) {
            this.seekAt = Infinity;
            return;
        }
        this.trial = {
            id: ++this.links, url, isGreeted: false, since: 0, deadline: this.now + OPEN_MS,
            heard: this.now, asked: null, isLeaving: false, error: null,
        };
        this.outputs.push({ do: "open", link: this.trial.id, url });
    }
    offer(urls) {
        const first = urls[0];
        if (first === undefined || urls.join("\n") === this.offered)
            return;
        const before = this.offered.split("\n")[0];
        this.offered = urls.join("\n");
        const at = (this.trial ?? this.active)?.url;
        this.rounds.offer(urls);
        // One that only joined or left behind the first changes nothing.
        if (first === before && at !== undefined && urls.includes(at))
            return this.rounds.turn(at);
        this.rounds.turn(first);
        this.rounds.good();
        if (this.trial && this.trial.url !== first) {
            this.outputs.push({ do: "close", link: this.trial.id });
            this.trial = null;
        }
        this.moving = this.active !== null && this.active.url !== first ? "better" : null;
        this.seekAt = 0;
    }
    wake() {
        this.seekAt = 0;
        if (this.active && this.active.asked === null)
            this.active.deadline = this.now;
        this.expire();
    }
    opened(link) {
        if (!link)
            return;
        link.deadline = this.now + WELCOME_MS;
        const resume = this.reader.resume();
        this.say(link, { t: "hello", session: this.session, ...(resume && { resume }) });
    }
    heard(link, text) {
        if (!link)
            return;
        const said = parse(text);
        if (link.isGreeted) {
            Object.assign(link, { heard: this.now, asked: null, deadline: this.now + PING_MS });
            this.trust(link);
        }
        try {
            if (said === null)
                throw new Broken("what it says is not a message");
            this.said(link, said);
        }
        catch (error) {
            if (!(error instanceof Broken))
                throw error;
            this.lost(link, new LongspanError("protocol", `the edge broke the protocol: ${error.message}`));
        }
    }
    said(link, said) {
        if (said.t === "welcome")
            return this.welcomed(link, said);
        if (said.t === "err" && (said.n === undefined || link !== this.active))
            return this.troubled(link, said);
        if (link !== this.active) {
            // It is not gone to where one must leave at once.
            if (said.t === "goaway")
                this.lost(link, new LongspanError("going_away", "the edge stops"));
            return;
        }
        switch (said.t) {
            // One by one: what comes before a broken one is told.
            case "evs":
                this.reader.skip(said.skipped);
                for (const ev of said.evs)
                    this.tell(this.reader.take(ev));
                break;
            case "state":
                this.loaded(this.reader.piece(said));
                break;
            case "gap":
                this.tell(this.reader.missed(said));
                break;
            case "ack":
                this.settle(this.outbox.ack(said.n, said.seq));
                break;
            case "err":
                this.refused(link, said);
                break;
            case "goaway":
                this.goAway(link, said);
                break;
        }
    }
    welcomed(link, welcome) {
        if (link.isGreeted)
            throw new Broken("it welcomes twice");
        const before = this.active;
        if (link !== this.trial)
            throw new Broken("it welcomes out of turn");
        Object.assign(link, { isGreeted: true, since: this.now, heard: this.now, deadline: this.now + PING_MS, error: null });
        // The one before goes on until here: nothing stands still while a member moves.
        [this.active, this.trial, this.moving, this.denials] = [link, null, null, 0];
        if (before)
            this.outputs.push({ do: "close", link: before.id });
        this.member = welcome.member;
        if (!this.outbox.begin(this.now, welcome.n, welcome.limits)) {
            return this.renew(link, new LongspanError("session_expired", `the room knows of the session's messages only up to ${welcome.n}`));
        }
        const told = this.reader.begin(welcome);
        if (this.reader.log !== null)
            this.status("open", null);
        this.loaded(told);
    }
    loaded(told) {
        this.tell(told);
        if (this.reader.logs !== this.logs) {
            // The log that knew the session is lost.
            this.logs = this.reader.logs;
            if (this.active && !this.outbox.isFresh) {
                return this.renew(this.active, new LongspanError("log_lost", "the room's log was lost and begins anew"));
            }
        }
        if (this.isOpen && this.phase !== "open")
            this.status("open", null);
    }
    goAway(link, { deadline_ms, alternatives }) {
        const told = alternatives.filter((url) => /^(https?|wss?):\/\//.test(url)).slice(0, MAX_ALTERNATIVES).map(plain);
        const others = [...told, ...this.rounds.all].filter((url) => url !== link.url);
        this.outputs.push({ do: "tell", event: { type: "goaway", deadlineMs: deadline_ms, alternatives } });
        link.isLeaving = true;
        this.rounds.offer([...new Set([...others, link.url])]);
        this.rounds.turn(others[0] ?? link.url);
        this.rounds.good();
        this.moving = "better";
        this.seekAt = 0;
    }
    troubled(link, { error, message, limit }) {
        link.error = new LongspanError(error, message, limit);
        if (error === "session_expired")
            return this.renew(link, link.error);
        this.outputs.push({ do: "tell", event: { type: "error", error: link.error } });
        if (error === "token_expired" && !this.config.canRenewToken)
            this.end(link.error);
    }
    refused(link, said) {
        const { settled, verdict } = this.outbox.refused(this.now, said.n, said);
        const error = new LongspanError(said.error, said.message, said.limit);
        this.settle(settled);
        if (verdict === "reconnect")
            this.lost(link, error);
        else if (verdict === "renew")
            this.renew(link, error);
        else if (settled === null && verdict === "goes on" && said.error === "unavailable") {
            this.outputs.push({ do: "tell", event: { type: "error", error } });
        }
    }
    /** Begins a session anew, on a connection of its own; what was seen of the room stays. */
    renew(link, error) {
        for (const settled of this.outbox.renew(error.code, error.message))
            this.settle(settled);
        this.session = this.chance.session();
        this.outputs.push({ do: "tell", event: { type: "error", error } });
        for (const other of [this.active, this.trial])
            if (other)
                this.outputs.push({ do: "close", link: other.id });
        this.active = this.trial = null;
        this.rounds.turn(link.url);
        this.again();
        this.status("reconnecting", error);
    }
    publish(id, message) {
        if (message.class === "ephemeral" && !this.isOpen) {
            return this.refuse(id, new LongspanError("not_connected", "no edge is connected, and what is ephemeral does not wait"));
        }
        const error = this.outbox.push(id, message);
        if (error)
            this.refuse(id, error);
    }
    flush() {
        for (;;) {
            const link = this.active;
            const text = link && this.reader.log !== null ? this.outbox.next(this.now) : null;
            if (!link || text === null)
                return;
            this.outputs.push({ do: "send", link: link.id, text });
            if (link.asked === null)
                link.deadline = Math.min(link.deadline, this.now + WAIT_MS);
        }
    }
    expire() {
        for (const link of [this.active, this.trial]) {
            if (!link || this.now < link.deadline)
                continue;
            if (link === this.active && link.asked === null) {
                link.asked = this.now;
                link.deadline = this.now + SUSPECT_MS;
                this.say(link, { t: "ping" });
                this.outbox.spent();
            }
            else if (link === this.active && this.now < link.asked + ANSWER_MS) {
                link.deadline = link.asked + ANSWER_MS;
                this.suspect(link);
            }
            else {
                const silent = Math.round(this.now - link.heard);
                this.lost(link, link.error ?? new LongspanError("silent", `the edge said nothing for ${silent} ms`));
            }
        }
    }
    /** The token does not open the room here. One edge may be wrong about it; all of them are not. */
    denied(link, { error, message }) {
        this.denials += 1;
        const why = new LongspanError(error, message);
        if (this.denials >= this.rounds.all.length && !this.active && !this.config.canRenewToken)
            this.end(why);
        else
            this.lost(link, why);
    }
    /** It does not answer: whichever does first, it or the next edge, is in use then. */
    suspect(link) {
        if (this.moving !== null || this.trial || this.rounds.all.length < 2)
            return;
        this.moving = "suspect";
        this.rounds.pass(link.url);
        this.seekAt = this.now;
    }
    /** It is there after all. */
    trust(link) {
        if (this.moving !== "suspect" || link !== this.active)
            return;
        this.moving = null;
        this.rounds.turn(link.url);
        if (this.trial)
            this.outputs.push({ do: "close", link: this.trial.id });
        this.trial = null;
    }
    lost(link, error) {
        this.outputs.push({ do: "close", link: link.id });
        if (link === this.trial) {
            this.trial = null;
            this.again();
            if (!this.active)
                this.status(this.phase, error);
            return;
        }
        this.active = null;
        this.outbox.end();
        if (this.now - link.since >= STABLE_MS)
            this.rounds.good();
        if (!this.trial) {
            this.rounds.turn(link.url);
            this.again();
        }
        this.status("reconnecting", error);
    }
    /** The next edge has its turn. */
    again() { this.seekAt = this.now + this.rounds.next(this.chance.unit()); }
    end(error) {
        for (const link of [this.active, this.trial])
            if (link)
                this.outputs.push({ do: "close", link: link.id });
        this.active = this.trial = null;
        const { code, message } = error ?? closed();
        for (const settled of this.outbox.close((isSent) => new LongspanError(code, message, undefined, isSent)))
            this.settle(settled);
        this.status("closed", error);
    }
    status(phase, error) {
        this.phase = phase;
        this.outputs.push({ do: "tell", event: { type: "status", phase, url: this.url, member: this.active && this.member, error } });
    }
    say(link, message) { this.outputs.push({ do: "send", link: link.id, text: JSON.stringify(message) }); }
    tell(events) {
        for (const event of events)
            this.outputs.push({ do: "tell", event });
        if (!events.some((it) => it.type === "state" || (it.type === "ev" && it.topic === PRESENCE)))
            return;
        this.outputs.push({ do: "tell", event: { type: "presence", presence: presenceOf(this.reader.state) } });
    }
    settle(settled) { if (settled)
        this.outputs.push({ do: "settle", settled }); }
    refuse(id, error) { this.settle({ id, error }); }
}
/** The same edge has one name. */
const plain = (url) => url.replace(/\/+$/, "");
const closed = () => new LongspanError("closed", "the client was closed");
