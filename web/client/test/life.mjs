// One member's life in a bad world: a seed decides everything, the checks are at the end.

import assert from "node:assert/strict";
import { chance, Clock, Connection, Edge, Room } from "./world.mjs";

const URLS = ["http://a", "http://b", "http://c"];
/** Trouble until here, then calm until everything must be in order. */
const TROUBLE_MS = 40_000;
const CALM_MS = 40_000;

/** Plays a seed with this `Core`; throws where something that must hold does not. */
export function live(Core, seed) {
  const random = chance(seed);
  const clock = new Clock();
  const room = new Room();
  const edges = new Map(URLS.map((url) => [url, new Edge(clock, room, random)]));
  const links = new Map();
  const sent = new Map();
  const told = [];
  const counts = { opened: 0, gaps: 0, sessions: 0, conflicts: 0, refilled: 0, skipped: 0 };
  let drawn = 0;
  const core = new Core({ urls: URLS }, {
    unit: random,
    session: () => (++drawn).toString(16).padStart(32, "0"),
  });

  // The driver.
  let due = Infinity;
  const handle = (input) => {
    core.handle(clock.now, input);
    for (let it = core.poll(); it; it = core.poll()) {
      if (it.do === "open") open(it.link, it.url);
      else if (it.do === "send") send(it.link, JSON.parse(it.text));
      else if (it.do === "close") close(it.link);
      else if (it.do === "settle") settled(it.settled);
      else tell(it.event);
    }
    const next = core.due();
    if (next >= due || next === Infinity) return;
    due = next;
    clock.at(next, () => {
      if (due !== next) return;
      due = Infinity;
      handle({ on: "timer" });
    });
  };
  const open = (link, url) => {
    counts.opened += 1;
    const edge = edges.get(url);
    assert.ok(edge, `${url} is an edge`);
    const connection = new Connection(edge, (text) => {
      if (links.get(link) === connection) handle({ on: "text", link, text });
    }, () => {
      if (links.get(link) !== connection) return;
      links.delete(link);
      handle({ on: "closed", link, reason: "cut" });
    });
    links.set(link, connection);
    assert.ok(links.size <= 2, "two connections at most");
    if (!edge.isUp) return connection.cut(true);
    if (random() < 0.1) connection.cut(random() < 0.7);
    else clock.after(10 + random() * 60, () => { if (links.get(link) === connection) handle({ on: "opened", link }); });
  };
  const send = (link, message) => {
    counts.refilled += Number(message.key === "-");
    links.get(link)?.up.put(message);
  };
  const close = (link) => {
    links.get(link)?.cut(false);
    links.delete(link);
  };
  const settled = ({ id, ...how }) => {
    const message = sent.get(id);
    assert.ok(message && !message.how, `message ${id} is settled once`);
    message.how = how;
    message.log = room.log;
  };
  const tell = (event) => {
    told.push(event);
    if (event.type === "gap") counts.gaps += 1;
    if (event.type === "error" && event.error.code === "session_expired") counts.sessions += 1;
  };

  // The member.
  let id = 0;
  const publish = () => {
    const dice = random();
    const key = `k${Math.floor(random() * 12)}`;
    const body = { id: ++id };
    const message = dice < 0.5 ? { topic: "chat", class: "log", body }
      : dice < 0.65 ? { topic: "board", class: "state", key, body }
      : dice < 0.75 ? { topic: "board", class: "state", key, if: random() < 0.5 ? 0 : core.reader.state.get(key)?.revision ?? 0, body }
      : dice < 0.85 ? { topic: "secret", class: "log", body }
      : { topic: "pen", class: "ephemeral", body };
    sent.set(id, { ...message, at: clock.now });
    handle({ on: "publish", id, message });
  };
  const others = () => {
    const key = `k${Math.floor(random() * 12)}`;
    if (random() < 0.7) room.append({ from: "other", at: clock.now, class: "log", topic: "chat", body: { other: random() } });
    else room.append({ from: "other", at: clock.now, class: "state", topic: "board", key, body: random() < 0.3 ? null : { other: random() } });
  };

  // Trouble.
  const one = () => edges.get(URLS[Math.floor(random() * URLS.length)]);
  const troubles = [
    () => { for (const link of links.values()) link.cut(random() < 0.7); },
    () => {
      const edge = one();
      edge.isUp = false;
      for (const link of [...edge.members]) link.cut(true);
      clock.after(random() * 8_000, () => { edge.isUp = true; });
    },
    () => {
      const edge = one();
      edge.isDark = true;
      clock.after(random() * 8_000, () => {
        edge.isDark = false;
        for (const link of [...edge.members]) link.cut(true);
      });
    },
    () => {
      const edge = one();
      edge.refuses = random() * 0.6;
      clock.after(random() * 5_000, () => { edge.refuses = 0; });
    },
    () => {
      room.isUp = false;
      clock.after(random() * 9_000, () => { room.isUp = true; });
    },
    () => {
      const edge = one();
      for (const link of edge.members) if (link.cursor !== null) link.down.put({ t: "goaway", deadline_ms: 2_000, alternatives: [URLS[0]] });
      clock.after(2_000, () => { for (const link of [...edge.members]) link.cut(true); });
    },
    () => {
      const from = Math.floor(random() * 3);
      handle({ on: "urls", urls: [...URLS.slice(from), ...URLS.slice(0, from)] });
    },
    () => { for (let i = 0; i < 60; i++) others(); },
    ...(seed % 10 === 3 ? [() => room.expire(core.session)] : []),
    ...(seed % 10 === 7 ? [() => { if (room.log < 2) room.lose(); }] : []),
  ];
  const often = (mean, what) => clock.after(random() * 2 * mean, () => {
    if (clock.now >= TROUBLE_MS) return;
    what();
    often(mean, what);
  });
  for (const edge of edges.values()) {
    const follow = () => {
      edge.follow();
      clock.after(10 + random() * 100, follow);
    };
    follow();
  }
  handle({ on: "start" });
  often(120, publish);
  often(200, others);
  often(1_500, () => troubles[Math.floor(random() * troubles.length)]());
  clock.run(TROUBLE_MS);
  room.isUp = true;
  for (const edge of edges.values()) Object.assign(edge, { isUp: true, isDark: false, refuses: 0 });
  for (const link of links.values()) link.cut(true);
  clock.after(5_000, publish);
  clock.run(TROUBLE_MS + CALM_MS);

  check({ core, room, sent, told, counts });
  return counts;
}

function check({ core, room, sent, told, counts }) {
  // Everything published was answered, and what was answered is so.
  const places = new Map();
  for (const [log, history] of room.logs.entries()) {
    for (const { seq, body } of history) {
      if (body?.id === undefined) continue;
      // One that was taken into a log that was lost before its answer came may be taken again.
      assert.ok(places.get(body.id)?.log !== log, `message ${body.id} is in the order once`);
      places.delete(body.id);
      places.set(body.id, { log, seq });
    }
  }
  for (const [id, { how, class: kind }] of sent) {
    assert.ok(how, `message ${id} was answered`);
    const place = places.get(id);
    if ("error" in how) {
      assert.ok(how.error.unknown || !place, `message ${id} is told not taken (${how.error.code}) and has a place`);
      // Only the end of a session excuses an answer that does not say.
      assert.ok(!how.error.unknown || room.ended.size > 0 || room.log > 0, `message ${id} is told unknown (${how.error.code})`);
      counts.conflicts += Number(how.error.code === "conflict");
    } else if (kind !== "ephemeral") {
      assert.equal(place?.seq, how.seq, `message ${id} is where its answer says`);
    }
  }
  // What is told unknown may come after what its member said later, in another session.
  const order = [...places.keys()].filter((id) => "seq" in sent.get(id).how);
  assert.deepEqual(order, [...order].sort((a, b) => a - b), "messages of one member keep their order");

  // What was told is the room's order, from the first state to the end.
  let at = null;
  for (const event of told) {
    if (event.type === "gap") {
      const log = Number(event.log.split("-")[2]);
      if (at && log === at.log) assert.equal(event.from, at.seq + 1, "a gap begins where the order was left");
      at = { log, seq: event.to };
    } else if (event.type === "state") {
      at ??= { log: Number(event.log.split("-")[2]), seq: event.seq };
      assert.equal(event.seq, at.seq, "a state is where the gap ends");
    } else if (event.type === "ev" && event.seq !== undefined) {
      assert.ok(event.seq > at.seq, "no message is repeated or out of order");
      const history = room.logs[at.log];
      for (const left of history.slice(at.seq, event.seq - 1)) {
        const again = left.class === "state" && history.slice(left.seq).some(({ key }) => key === left.key);
        assert.ok(again, `message ${left.seq} is missing`);
        counts.skipped += 1;
      }
      at.seq = event.seq;
      const { type: _, ...ev } = event;
      const { key, ...rest } = room.logs[at.log][at.seq - 1];
      assert.deepEqual(ev, key === undefined ? rest : { ...rest, key });
    }
  }
  assert.deepEqual(at, { log: room.log, seq: room.history.length }, "everything was seen");
  assert.deepEqual([...core.reader.state].sort(), [...room.keys].sort(), "the state is the room's");
  assert.equal(core.phase, "open");
  assert.ok(counts.opened < 200, `${counts.opened} connections in 80 s`);
}
