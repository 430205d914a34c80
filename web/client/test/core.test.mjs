// The client's core, step by step.

import assert from "node:assert/strict";
import { test } from "node:test";
import { ANSWER_MS, Core, OPEN_MS, PING_MS, SUSPECT_MS, WAIT_MS } from "../dist/core.js";
import { MAX_QUEUED } from "../dist/outbox.js";
import { Reader } from "../dist/reader.js";
import { MAX_PAUSE_MS, PAUSE_MS } from "../dist/rounds.js";

const A = "http://a", B = "http://b";
const LIMITS = { body: 16_384, rate: 50, burst: 200, unanswered: 200 };
const LOG = "group-1-1";

/** A core, what it does, and what it is told. */
class Play {
  now = 0;
  did = [];
  sessions = 0;

  constructor(config = {}) {
    this.core = new Core({ urls: [A, B], ...config }, { unit: () => 0, session: () => String(++this.sessions).padStart(32, "0") });
    this.handle({ on: "start" });
  }

  handle(input) {
    this.core.handle(this.now, input);
    for (let it = this.core.poll(); it; it = this.core.poll()) this.did.push(it.do === "send" ? { ...it, said: JSON.parse(it.text) } : it);
    return this;
  }

  /** What was done since this was asked last, of one kind. */
  take(kind) {
    const found = this.did.filter((it) => it.do === kind);
    this.did = this.did.filter((it) => it.do !== kind);
    return found;
  }

  hear(link, message) { return this.handle({ on: "text", link, text: JSON.stringify(message) }); }
  welcome(link, n = 0, more = {}) { return this.hear(link, { t: "welcome", member: "m", log: LOG, seq: 0, n, state: {}, more: false, limits: LIMITS, ...more }); }
  open(link) { return this.handle({ on: "opened", link }); }
  at(ms) { this.now = ms; return this.handle({ on: "timer" }); }
  /** Sleeps until something is due, until `end` at most. */
  until(end) { while (this.core.due() <= end) this.at(this.core.due()); this.now = end; return this; }
  publish(id, message = {}) { return this.handle({ on: "publish", id, message: { topic: "chat", class: "log", body: id, ...message } }); }
}

const joined = (config) => new Play(config).open(1).welcome(1);
const statuses = (play) => play.take("tell").filter(({ event }) => event.type === "status").map(({ event }) => event.phase);
const ev = (seq, more = {}) => ({ t: "ev", seq, from: "x", at: 1, class: "log", topic: "chat", body: seq, ...more });

test("it joins, publishes and is answered", () => {
  const play = joined();
  assert.deepEqual(play.take("open"), [{ do: "open", link: 1, url: A }]);
  assert.deepEqual(play.take("send").map(({ said }) => said), [{ t: "hello", session: "1".padStart(32, "0") }]);
  assert.deepEqual(statuses(play), ["open"]);
  play.publish(1);
  assert.deepEqual(play.take("send").map(({ said }) => said), [{ t: "pub", n: 1, topic: "chat", class: "log", body: 1 }]);
  play.hear(1, { t: "ack", n: 1, seq: 7 });
  assert.deepEqual(play.take("settle"), [{ do: "settle", settled: { id: 1, seq: 7 } }]);
  assert.equal(play.core.pending, 0);
});

test("a connection that is lost is replaced at the next edge, and what was not answered is sent again with its number", () => {
  const play = joined().publish(1).publish(2);
  play.hear(1, { t: "ack", n: 1, seq: 1 }).hear(1, ev(1)).take("send");
  play.take("open");
  play.handle({ on: "closed", link: 1, reason: "1006" });
  assert.deepEqual(play.take("open"), [{ do: "open", link: 2, url: B }], "at once");
  play.publish(3).open(2);
  assert.deepEqual(play.take("send").map(({ said }) => said.resume), [{ seq: 1, log: LOG }]);
  play.welcome(2, 1, { state: undefined, seq: 1 });
  assert.deepEqual(play.take("send").map(({ said }) => [said.n, said.body]), [[2, 2], [3, 3]]);
});

test("a silent edge is left, and before that the next one is begun beside it", () => {
  const play = joined();
  play.take("send");
  play.take("open");
  play.until(PING_MS);
  assert.deepEqual(play.take("send").map(({ said }) => said.t), ["ping"]);
  play.until(PING_MS + SUSPECT_MS - 1);
  assert.deepEqual(play.take("open"), []);
  play.until(PING_MS + SUSPECT_MS);
  assert.deepEqual(play.take("open"), [{ do: "open", link: 2, url: B }]);
  play.hear(1, { t: "pong" });
  assert.deepEqual(play.take("close"), [{ do: "close", link: 2 }], "it answered after all");
  assert.equal(play.core.url, A);

  const again = play.now + PING_MS;
  play.until(again + SUSPECT_MS);
  assert.deepEqual([play.take("open"), play.take("close")], [[{ do: "open", link: 3, url: B }], []]);
  play.until(again + ANSWER_MS);
  assert.deepEqual(play.take("close"), [{ do: "close", link: 1 }]);
  assert.equal(play.core.phase, "reconnecting");
  play.open(3).welcome(3, 0, { state: undefined });
  assert.equal(play.core.url, B);
});

test("an edge that owes an answer is asked sooner, and replaced by whoever answers first", () => {
  const play = joined().publish(1);
  play.take("send");
  play.until(WAIT_MS);
  assert.deepEqual(play.take("send").map(({ said }) => said.t), ["ping"]);
  play.until(WAIT_MS + SUSPECT_MS).open(2).welcome(2, 0, { state: undefined });
  assert.deepEqual(play.take("close"), [{ do: "close", link: 1 }]);
  assert.deepEqual(play.take("send").filter(({ said }) => said.t === "pub").map(({ link, said }) => [link, said.n]), [[2, 1]]);
  assert.deepEqual(statuses(play), ["open", "open"], "the room was never left");
});

test("where every edge fails pauses grow up to a bound", () => {
  const play = new Play();
  const at = [];
  while (play.now < 120_000) {
    for (let opened = play.take("open"); opened.length > 0; opened = play.take("open")) {
      at.push(play.now);
      play.handle({ on: "closed", link: opened[0].link, reason: "refused" });
    }
    play.at(play.core.due());
  }
  const pauses = at.slice(1).map((when, i) => when - at[i]);
  assert.deepEqual(pauses.slice(0, 6), [0, PAUSE_MS, PAUSE_MS, 2 * PAUSE_MS, 2 * PAUSE_MS, 4 * PAUSE_MS]);
  assert.equal(Math.max(...pauses), MAX_PAUSE_MS);
});

test("an edge that never opens, or never welcomes, is left", () => {
  const play = new Play().until(OPEN_MS);
  assert.deepEqual(play.take("open").map(({ url }) => url), [A, B]);
  play.open(2).until(60_000);
  assert.ok(play.take("open").length > 1);
});

test("goaway: the new connection is there before the old one is left, and nothing is told twice", () => {
  const play = joined().publish(1);
  play.take("open");
  play.hear(1, { t: "goaway", deadline_ms: 5_000, alternatives: ["edge-9", "http://a/", "http://c/"] });
  assert.deepEqual(play.take("open"), [{ do: "open", link: 2, url: "http://c" }]);
  play.open(2).hear(1, ev(1)).hear(1, { t: "ack", n: 1, seq: 1 });
  assert.deepEqual(play.take("close"), []);
  play.take("send");
  play.publish(2);
  assert.deepEqual(play.take("send").map(({ link }) => link), [1], "the old one serves until then");
  play.welcome(2, 1, { state: undefined }).hear(2, ev(1)).hear(2, ev(2));
  assert.deepEqual(play.take("close"), [{ do: "close", link: 1 }]);
  assert.deepEqual(play.take("send").map(({ link, said }) => [link, said.n]), [[2, 2]]);
  const told = play.take("tell").filter(({ event }) => event.type === "ev").map(({ event }) => event.seq);
  assert.deepEqual(told, [1, 2]);
  assert.equal(play.core.url, "http://c");
});

test("an edge that says goaway before it welcomes is not gone to", () => {
  const play = new Play().open(1).hear(1, { t: "goaway", deadline_ms: 5_000, alternatives: [B] });
  assert.deepEqual(play.take("close"), [{ do: "close", link: 1 }]);
  assert.equal(play.take("open").at(-1).url, B);
});

test("goaway with nowhere to go: it stays until it is closed", () => {
  const play = joined({ urls: [A] });
  play.take("open");
  play.hear(1, { t: "goaway", deadline_ms: 5_000, alternatives: [] });
  assert.deepEqual([play.take("open"), play.take("close")], [[], []]);
  play.handle({ on: "closed", link: 1, reason: "1001" }).until(1_000);
  assert.equal(play.take("open")[0].url, A);
});

test("another first edge is gone to, and back where it fails", () => {
  const play = joined();
  play.take("open");
  play.handle({ on: "urls", urls: [A, "http://c", B] });
  assert.deepEqual(play.take("open"), [], "one that only joined changes nothing");
  play.handle({ on: "urls", urls: [B, A] });
  assert.deepEqual(play.take("open"), [{ do: "open", link: 2, url: B }]);
  play.handle({ on: "closed", link: 2, reason: "refused" }).until(1_000);
  assert.deepEqual(play.take("open"), []);
  assert.equal(play.core.url, A);
});

test("limits are named, and what no edge would read is not sent", () => {
  const play = new Play();
  const refused = (id, message) => {
    play.publish(id, message);
    const [{ settled: { error } }] = play.take("settle");
    return [error.code, error.limit, error.unknown];
  };
  assert.deepEqual(refused(1, { class: "ephemeral" }), ["not_connected", undefined, false]);
  assert.deepEqual(refused(2, { body: "x".repeat(103_000) }), ["too_long", 102_400, false]);
  const deep = JSON.parse("[".repeat(101) + "]".repeat(101));
  assert.deepEqual(refused(3, { body: deep }), ["invalid_body", 100, false]);
  const cycle = {};
  cycle.cycle = cycle;
  assert.deepEqual(refused(4, { body: cycle }), ["invalid_body", undefined, false]);
  for (let id = 10; id < 10 + MAX_QUEUED; id++) play.publish(id);
  assert.deepEqual(refused(5), ["queue_full", MAX_QUEUED, false]);
});

test("no more is sent at once than the edge allows, however much waits", () => {
  const play = new Play();
  for (let id = 1; id <= 500; id++) play.publish(id);
  play.open(1).take("send");
  play.welcome(1, 0, { limits: { ...LIMITS, rate: 10, burst: 20 } });
  const sent = play.take("send").map(({ said }) => said.n);
  assert.ok(sent.length <= 10, `${sent.length} at once`);
  for (const n of sent) play.hear(1, { t: "ack", n, seq: n });
  let count = 0;
  while (play.now < 10_000) {
    play.at(Math.min(play.core.due(), play.now + 100));
    for (const { said } of play.take("send")) {
      if (said.t === "pub") count += 1;
      play.hear(1, said.t === "ping" ? { t: "pong" } : { t: "ack", n: said.n, seq: said.n });
    }
  }
  assert.ok(count > 50 && count <= 100, `${count} in 10 s at 10 a second`);
});

test("a session that is over: what was sent is told unknown, what was not is sent in a new one", () => {
  const play = joined().publish(1);
  play.handle({ on: "closed", link: 1, reason: "1006" }).publish(2).open(2);
  play.hear(2, { t: "err", error: "session_expired", message: "the session is not known any more" });
  const [{ settled }, ...others] = play.take("settle");
  assert.deepEqual([settled.id, settled.error.code, settled.error.unknown, others.length], [1, "session_expired", true, 0]);
  play.until(1_000).take("send");
  const { link } = play.take("open").at(-1);
  play.open(link);
  assert.equal(play.take("send")[0].said.session, "2".padStart(32, "0"));
  play.welcome(link);
  assert.deepEqual(play.take("send").map(({ said }) => [said.n, said.body]), [[1, 2]]);
});

test("numbers that will never come are filled before what follows them", () => {
  const play = joined().publish(1);
  play.hear(1, { t: "err", n: 1, error: "forbidden", message: "no" });
  assert.equal(play.take("settle")[0].settled.error.code, "forbidden");
  play.publish(2).handle({ on: "closed", link: 1, reason: "1006" }).open(2).take("send");
  play.welcome(2);
  const [filler, message] = play.take("send").map(({ said }) => said);
  assert.deepEqual([filler.n, filler.class, filler.if], [1, "state", Number.MAX_SAFE_INTEGER]);
  assert.deepEqual([message.n, message.body], [2, 2]);
  play.hear(2, { t: "err", n: 1, error: "conflict", message: "…" }).hear(2, { t: "ack", n: 2, seq: 1 });
  assert.deepEqual(play.take("settle").map(({ settled }) => settled.id), [2]);
});

test("a token that is over ends it, unless another can be drawn", () => {
  const err = { t: "err", error: "token_expired", message: "the token is over" };
  const play = joined().publish(1).hear(1, err);
  assert.equal(play.core.phase, "closed");
  assert.deepEqual(play.take("settle").map(({ settled }) => [settled.error.code, settled.error.unknown]), [["token_expired", true]]);
  assert.equal(play.core.due(), Infinity);
  const other = joined({ canRenewToken: true }).hear(1, err).handle({ on: "closed", link: 1, reason: "1008" });
  assert.equal(other.take("open").at(-1).url, B);
});

test("where no edge lets it in it ends with the reason; one of them is not enough", () => {
  const denied = { error: "token_invalid", message: "the token is not valid" };
  const play = new Play().handle({ on: "closed", link: 1, reason: "", denied });
  assert.equal(play.core.phase, "connecting");
  play.handle({ on: "closed", link: 2, reason: "", denied });
  const { event } = play.take("tell").at(-1);
  assert.deepEqual([event.phase, event.error.code], ["closed", "token_invalid"]);
  const other = new Play({ canRenewToken: true });
  for (let link = 1; link <= 8; link++) other.handle({ on: "closed", link, reason: "", denied }).until(other.core.due());
  assert.equal(other.core.phase, "connecting");
});

test("closing rejects what waits, and later publishes", () => {
  const play = joined().publish(1).handle({ on: "close" }).publish(2);
  assert.deepEqual(play.take("settle").map(({ settled }) => [settled.id, settled.error.code, settled.error.unknown]), [[1, "closed", true], [2, "closed", false]]);
  assert.deepEqual(play.take("close"), [{ do: "close", link: 1 }]);
});

test("a hole, or what is no message, ends the connection and not the order", () => {
  for (const said of [ev(3), { t: "ack" }, 7]) {
    const play = joined().hear(1, ev(1));
    play.take("open");
    play.hear(1, said);
    assert.equal(play.core.phase, "reconnecting");
    assert.equal(play.take("open")[0].url, B);
  }
  const batch = joined().hear(1, { t: "evs", evs: [ev(1), ev(2), ev(4)] });
  const told = batch.take("tell").filter(({ event }) => event.type === "ev").map(({ event }) => event.seq);
  assert.deepEqual([told, batch.core.reader.seq, batch.core.phase], [[1, 2], 2, "reconnecting"]);
  const skipping = joined().hear(1, ev(1)).hear(1, { t: "evs", skipped: 3, evs: [ev(3), ev(6)] });
  assert.deepEqual([skipping.core.reader.seq, skipping.core.phase], [6, "open"]);
  // Not more than was said, and only there.
  assert.equal(skipping.hear(1, ev(8)).core.phase, "reconnecting");
  const more = joined().hear(1, { t: "evs", skipped: 1, evs: [ev(1), ev(4)] });
  assert.deepEqual([more.core.reader.seq, more.core.phase], [1, "reconnecting"]);
  const repeats = joined().hear(1, ev(1)).hear(1, { t: "evs", skipped: 1, evs: [ev(1), ev(2)] }).hear(1, ev(4));
  assert.equal(repeats.core.phase, "reconnecting");
  const play = joined().hear(1, { t: "of a newer edge" });
  assert.equal(play.core.phase, "open");
});

test("a state that is behind what was seen is not taken, one of another log is", () => {
  const entry = (body) => ({ revision: 1, from: "x", at: 1, topic: "t", body });
  const reader = new Reader();
  const begin = (seq, log, body) => reader.begin({ t: "welcome", log, seq, state: { k: entry(body) }, more: false });
  begin(5, "group-1-1", "new");
  assert.deepEqual(begin(4, "group-1-1", "old"), []);
  assert.equal(reader.state.get("k").body, "new");
  reader.missed({ t: "gap", from: 6, to: 2, log: "group-1-2" });
  assert.equal(reader.seq, 5, "the place stays until the state is whole");
  const told = reader.piece({ t: "state", log: "group-1-2", seq: 2, state: {}, more: false });
  assert.deepEqual(told, [{ type: "gap", from: 6, to: 2, log: "group-1-2" }, { type: "state", seq: 2, log: "group-1-2" }]);
  assert.deepEqual([reader.seq, reader.state.size, reader.logs], [2, 0, 1]);
});

test("who is in the room is read from its state", () => {
  const entry = (member) => ({ revision: 1, from: "edge", at: 1, topic: "presence", body: { member } });
  const play = new Play().open(1).welcome(1, 0, { state: { "presence/ann": entry("ann"), "page": entry(1) } });
  const presences = () => play.take("tell").filter(({ event }) => event.type === "presence").map(({ event }) => event.presence);
  assert.deepEqual(presences(), [{ count: 1, members: ["ann"], isWhole: true, joins: 0, leaves: 0 }]);
  play.hear(1, ev(1)).hear(1, ev(2, { class: "state", topic: "presence", key: "presence/ben", body: { member: "ben" } }));
  assert.deepEqual(presences().map(({ members }) => members), [["ann", "ben"]]);
  const crowd = { count: 900, joins: 3, leaves: 1, sample: ["ann"] };
  play.hear(1, ev(3, { class: "state", topic: "presence", key: "presence", body: crowd }));
  assert.deepEqual(presences(), [{ count: 900, members: ["ann"], isWhole: false, joins: 3, leaves: 1 }]);
});
