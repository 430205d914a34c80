// A room and its edges in virtual time, for tests of the client: what they promise is kept
// (edge/src/messages, relay/src/roomlog/room), and everything that may go wrong does, by a seed.

/** Numbers in 0..1 from a seed (mulberry32). */
export function chance(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What happens when. */
export class Clock {
  now = 0;
  #queue = [];
  #count = 0;

  at(when, what) { this.#queue.push({ when: Math.max(when, this.now), order: this.#count++, what }); }
  after(ms, what) { this.at(this.now + ms, what); }

  run(until) {
    for (;;) {
      let first = null;
      for (const it of this.#queue) if (!first || it.when < first.when || (it.when === first.when && it.order < first.order)) first = it;
      if (!first || first.when > until) break;
      this.#queue.splice(this.#queue.indexOf(first), 1);
      this.now = first.when;
      first.what();
    }
    this.now = until;
  }
}

/** The room as a placement group keeps it: order, sessions, keyed state. */
export class Room {
  log = 0;
  /** Of all logs: [log][seq - 1]. */
  logs = [[]];
  sessions = new Map();
  ended = new Set();
  keys = new Map();
  isUp = true;

  get history() { return this.logs[this.log]; }
  get name() { return `group-1-${this.log}`; }

  lose() {
    this.log += 1;
    this.logs.push([]);
    this.sessions.clear();
    this.keys.clear();
  }

  expire(session) {
    this.sessions.delete(session);
    this.ended.add(session);
  }

  held(session) { return this.ended.has(session) ? null : this.sessions.get(session)?.held ?? 0; }

  passOver(session, first, last) {
    if (this.ended.has(session)) return;
    const it = this.sessions.get(session) ?? (first === 1 ? this.#begin(session) : null);
    if (it && first <= it.seen + 1) [it.held, it.seen] = [Math.max(it.held, last), Math.max(it.seen, last)];
  }

  publish(session, from, { n, topic, class: kind, key, if: expected, body }, at) {
    const digest = JSON.stringify([topic, kind, key, expected, body]);
    const refuse = (error, limit) => ({ t: "err", n, error, message: error, limit });
    if (this.ended.has(session)) return refuse("session_expired");
    if (!this.sessions.has(session) && n !== 1 && kind !== "ephemeral") return refuse("n_jumped", 1);
    const it = this.sessions.get(session) ?? this.#begin(session);
    if (kind === "ephemeral") {
      if (n <= it.held) return { t: "ack", n };
      this.passOver(session, n, n);
      return { t: "ack", n, event: { from, at, class: kind, topic, key, body } };
    }
    if (n > it.seen + 1) return refuse("n_jumped", it.seen + 1);
    if (n <= it.held) {
      const ack = it.acks.get(n);
      if (!ack) return refuse("n_went_back", it.held);
      return ack.digest === digest ? { t: "ack", n, seq: ack.seq } : refuse("n_reused");
    }
    it.seen = Math.max(it.seen, n);
    const conflict = it.conflicts.get(n);
    const revision = conflict?.digest === digest ? conflict.revision : this.keys.get(key)?.revision ?? 0;
    if (expected !== undefined && (conflict?.digest === digest || expected !== revision)) {
      it.conflicts.set(n, { digest, revision });
      return refuse("conflict", revision);
    }
    const seq = this.append({ from, at, class: kind, topic, key, body });
    it.held = n;
    it.acks.set(n, { digest, seq });
    return { t: "ack", n, seq };
  }

  append(message) {
    const seq = this.history.length + 1;
    this.history.push({ seq, ...message });
    if (message.class === "state") {
      const { key, from, at, topic, body } = message;
      if (body === null) this.keys.delete(key);
      else this.keys.set(key, { revision: seq, from, at, topic, body });
    }
    return seq;
  }

  #begin(session) {
    const it = { held: 0, seen: 0, acks: new Map(), conflicts: new Map() };
    this.sessions.set(session, it);
    return it;
  }
}

/** How far a member may lag, and how much of the state is in one piece. */
const WINDOW = 30;
const PIECE = 3;
const LIMITS = { body: 16_384, rate: 50, burst: 40, unanswered: 30 };

/** An edge: lags behind the room, and refuses at will. */
export class Edge {
  isUp = true;
  /** Takes connections and answers nothing. */
  isDark = false;
  refuses = 0;
  seq = 0;
  log = 0;
  keys = new Map();
  members = new Set();

  constructor(clock, room, random) { Object.assign(this, { clock, room, random }); }

  /** Hears of what the room has, up to a point it chooses. */
  follow() {
    if (this.log !== this.room.log) {
      [this.log, this.seq] = [this.room.log, 0];
      this.keys.clear();
      for (const member of this.members) if (member.cursor !== null) member.cursor = -1;
    }
    const to = this.seq + Math.ceil(this.random() * (this.room.history.length - this.seq));
    while (this.seq < to) {
      const { seq, class: kind, key, from, at, topic, body } = this.room.history[this.seq++];
      if (kind !== "state") continue;
      if (body === null) this.keys.delete(key);
      else this.keys.set(key, { revision: seq, from, at, topic, body });
    }
    for (const member of this.members) member.pull();
  }
}

/** One connection of a member to an edge. */
export class Connection {
  cursor = null;
  hello = null;
  session = "";
  held = 0;
  passedOn = 0;
  refused = null;
  bytes = 0;
  isCut = false;

  /** `say`: what the member hears; `ended`: that the connection is closed. */
  constructor(edge, say, ended) {
    Object.assign(this, { edge, clock: edge.clock, room: edge.room, random: edge.random, ended });
    // What is under way when the connection is lost is lost from some point on.
    const pipe = (to) => {
      let at = 0;
      let isOpen = true;
      return { put: (it) => {
        if (!isOpen) return;
        at = Math.max(at, this.clock.now + 5 + this.random() * 40);
        this.clock.at(at, () => { if (isOpen) to(it); });
      }, cut: (after) => this.clock.after(after, () => { isOpen = false; }) };
    };
    this.up = pipe((message) => this.hear(message));
    this.down = pipe((message) => say(JSON.stringify(message)));
    this.name = `m-${Math.floor(this.random() * 1e9)}`;
    edge.members.add(this);
  }

  /** The connection breaks: of what is under way each side gets a part. `isTold`: the member notices. */
  cut(isTold) {
    if (this.isCut) return;
    this.isCut = true;
    this.down.cut(this.random() * 30);
    this.up.cut(this.random() * 60);
    this.edge.members.delete(this);
    if (isTold) this.clock.after(40 + this.random() * 60, this.ended);
  }

  hear(message) {
    if (this.edge.isDark) return;
    if (message.t === "ping") return this.down.put({ t: "pong" });
    if (message.t === "hello") return this.greet(message);
    const { n } = message;
    const refuse = (error) => {
      const next = (this.refused?.[1] ?? this.passedOn) + 1;
      if (n === next) this.refused = [this.refused?.[0] ?? n, n];
      this.down.put({ t: "err", n, error, message: error });
    };
    if (message.topic === "secret") return refuse("forbidden");
    if (this.random() < this.edge.refuses) return refuse(this.random() < 0.5 ? "busy" : "rate_limited");
    this.passedOn = Math.max(this.passedOn, n);
    const lead = this.refused && this.refused[0] <= Math.min(this.refused[1], n - 1) ? [this.refused[0], Math.min(this.refused[1], n - 1)] : null;
    this.refused = null;
    this.ask(n, () => {
      if (lead) this.room.passOver(this.session, ...lead);
      const { event, ...answer } = this.room.publish(this.session, this.name, message, this.clock.now);
      if (event) for (const member of this.edge.members) if (member.cursor !== null) member.down.put({ t: "ev", ...event });
      return answer;
    });
  }

  /** To the room and back, in order; while the room has no leader it waits, and is given up after 6 s. */
  ask(n, what, since = this.clock.now) {
    this.line = Math.max(this.line ?? 0, this.clock.now + 2 + this.random() * 30);
    this.clock.at(this.line, () => {
      if (this.room.isUp) {
        const answer = what();
        this.clock.after(this.random() * 20, () => this.down.put(answer));
      } else if (this.clock.now - since >= 6_000) {
        this.down.put({ t: "err", n, error: "unavailable", message: "unavailable" });
        // It may get there yet.
        if (this.random() < 0.5) this.late.push(what);
      } else {
        this.queue.push({ n, what, since });
        if (this.queue.length === 1) this.drain();
      }
    });
  }
  queue = [];
  late = [];

  drain() {
    this.clock.after(100, () => {
      if (this.room.isUp) for (const what of this.late.splice(0)) what();
      const waiting = this.queue.splice(0);
      for (const { n, what, since } of waiting) this.ask(n, what, since);
    });
  }

  greet({ session, resume }) {
    this.session = session;
    const go = (held) => {
      [this.held, this.passedOn] = [held, held];
      this.hello = { resume, since: this.clock.now };
      this.pull();
    };
    if (!resume) return go(0);
    this.clock.after(this.random() * 40, () => {
      const held = this.room.held(session);
      if (held === null) this.down.put({ t: "err", error: "session_expired", message: "draw a new one" });
      go(held ?? 0);
    });
  }

  pull() {
    if (this.isCut || this.edge.isDark || !this.hello) return;
    const { edge, hello: { resume } } = this;
    const name = `group-1-${edge.log}`;
    if (this.cursor === null) {
      if (resume && resume.log === name && resume.seq > edge.seq) return;
      const welcome = { t: "welcome", member: this.name, log: name, seq: resume?.seq ?? edge.seq, n: this.held, more: false, limits: LIMITS };
      if (resume) this.down.put(welcome);
      else this.state((state, more, first) => (first ? { ...welcome, state, more } : { t: "state", log: name, seq: edge.seq, state, more }));
      this.cursor = !resume ? edge.seq : resume.log === name ? resume.seq : -1;
      this.seen = resume?.seq ?? 0;
    }
    if (this.cursor < 0 || this.cursor < edge.seq - WINDOW) {
      this.down.put({ t: "gap", from: (this.cursor < 0 ? this.seen : this.cursor) + 1, to: edge.seq, log: name });
      this.state((state, more) => ({ t: "state", log: name, seq: edge.seq, state, more }));
      this.cursor = edge.seq;
    }
    while (this.cursor < edge.seq) {
      const log = this.room.logs[edge.log].slice(0, edge.seq);
      const most = 1 + Math.floor(this.random() * 8);
      const lags = edge.seq - this.cursor > most;
      const [evs, from] = [[], this.cursor];
      for (const ev of log.slice(from)) {
        if (evs.length === most) break;
        // Whoever lags is spared what a later message writes again.
        if (lags && ev.class === "state" && log.slice(ev.seq).some(({ key }) => key === ev.key)) continue;
        evs.push(ev);
        this.cursor = ev.seq;
      }
      this.seen = this.cursor;
      const skipped = this.cursor - from - evs.length;
      this.down.put(evs.length === 1 && !skipped ? { t: "ev", ...evs[0] } : { t: "evs", evs, ...(skipped && { skipped }) });
    }
  }

  state(message) {
    const entries = [...this.edge.keys];
    for (let at = 0; at === 0 || at < entries.length; at += PIECE) {
      this.down.put(message(Object.fromEntries(entries.slice(at, at + PIECE)), at + PIECE < entries.length, at === 0));
    }
  }
}
