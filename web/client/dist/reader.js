// What was seen of the room: the place in its order, and the state there. Pure.
//
// Contract: `begin` with each connection, then what it says, in order. Ordered messages leave
// exactly once and without a hole, but for messages of class `state` whose key a later one writes:
// an edge leaves them out for a reader that lags. Where some are lost for good, a `gap` and a fresh
// state say so.
/** Messages held back while a state arrives in pieces; more, and the connection is not an edge's. */
const MAX_HELD = 4_096;
/** What an edge never says; the connection is left. */
export class Broken extends Error {
}
export class Reader {
    /** The newest message seen. */
    seq = 0;
    /** Which log places are in; null: none was seen. */
    log = null;
    state = new Map();
    /** Raised when places begin anew in another log. */
    logs = 0;
    gap = null;
    loading = null;
    held = [];
    /** Places that the edge left out and that were not passed yet. */
    skipped = 0;
    /** Where to go on; undefined: at the state as it is. */
    resume() {
        return this.log === null ? undefined : { seq: this.seq, log: this.log };
    }
    /** Whether there is a state, complete, and nothing more of it is awaited. */
    get isWhole() { return this.log !== null && this.loading === null && this.gap === null; }
    /** Another connection speaks from now on. */
    begin(welcome) {
        this.gap = this.loading = null;
        this.held = [];
        this.skipped = 0;
        if (welcome.state !== undefined)
            return this.piece({ ...welcome, t: "state", state: welcome.state });
        if (this.log === null)
            throw new Broken("a welcome without a state");
        return [];
    }
    missed(gap) {
        // Until the state is whole the place stays: a connection lost in between is told again.
        this.gap = gap;
        return [];
    }
    /** A piece of the state. */
    piece({ log, seq, state, more }) {
        const entries = this.loading ??= new Map();
        for (const [key, entry] of Object.entries(state))
            entries.set(key, entry);
        if (more)
            return [];
        const { gap, held } = this;
        this.gap = this.loading = null;
        this.held = [];
        // Two connections overlap: what the other one brought already is newer.
        if (log === this.log && seq < this.seq)
            return held.flatMap((ev) => this.ordered(ev));
        if (this.log !== null && log !== this.log)
            this.logs += 1;
        const told = [];
        if (gap && !(log === this.log && gap.to <= this.seq)) {
            told.push({ type: "gap", from: log === this.log ? Math.max(gap.from, this.seq + 1) : gap.from, to: gap.to, log });
        }
        [this.log, this.seq, this.state] = [log, seq, entries];
        told.push({ type: "state", seq, log });
        return told.concat(held.flatMap((ev) => this.ordered(ev)));
    }
    /** Of the messages that come next the edge left out so many. */
    skip(count) {
        this.skipped = this.isWhole ? count : this.skipped + count;
    }
    take(ev) {
        if (this.isWhole)
            return this.ordered(ev);
        if (this.held.length >= MAX_HELD)
            throw new Broken(`${MAX_HELD} messages came before the state was whole`);
        this.held.push(ev);
        return [];
    }
    ordered(ev) {
        if (ev.seq === undefined)
            return [{ type: "ev", ...ev }];
        if (ev.seq <= this.seq)
            return [];
        this.skipped -= ev.seq - this.seq - 1;
        if (this.skipped < 0)
            throw new Broken(`message ${ev.seq} follows ${this.seq}`);
        this.seq = ev.seq;
        if (ev.class === "state" && ev.key !== undefined)
            this.write(ev.key, ev, ev.seq);
        return [{ type: "ev", ...ev }];
    }
    write(key, { from, at, topic, body }, revision) {
        const state = this.state;
        if (body === null)
            state.delete(key);
        else
            state.set(key, { revision, from, at, topic, body });
    }
}
