// The schema: what is written is read back, and what does not fit is not taken for it.

import assert from "node:assert/strict";
import { test } from "node:test";
import * as classroom from "../dist/classroom.js";

/** The state after these messages, each by `from`. */
function stateOf(...messages) {
  const state = new Map();
  for (const [i, { key, topic, body }] of messages.entries()) {
    if (body === null) state.delete(key);
    else state.set(key, { revision: i + 1, from: "x", at: 100 + i, topic, body });
  }
  return state;
}

test("hands are in the order they were raised, and lowered by name", () => {
  const { raiseHand, lowerHand, handsOf } = classroom;
  const state = stateOf(raiseHand("zoe"), raiseHand("ann", { note: "why?" }), raiseHand("ben"), lowerHand("zoe"));
  assert.deepEqual(handsOf(state).map(({ member, since }) => [member, since]), [["ann", 101], ["ben", 102]]);
});

test("a page has its own strokes, in the order they were drawn", () => {
  const { turnTo, stroke, pageOf, strokesOf } = classroom;
  const line = { points: [0, 0, 10, 10], color: "#fff", width: 2 };
  const state = stateOf(turnTo({ page: 2, pages: 9 }), stroke(2, "b", line), stroke(2, "a", line), stroke(1, "c", line), stroke(22, "d", line),
    stroke(2, "e", { points: [1], color: "#fff", width: 1 }));
  assert.deepEqual(pageOf(state), { page: 2, pages: 9 });
  assert.deepEqual(strokesOf(state, 2).map(({ id }) => id), ["b", "a"]);
});

test("only votes for this poll and its options count, one for each member", () => {
  const { ask, vote, pollOf, countOf } = classroom;
  const poll = { id: "p2", question: "?", options: ["yes", "no"], open: true };
  const state = stateOf(ask(poll), vote("ann", { poll: "p1", option: 0 }), vote("ben", { poll: "p2", option: 1 }),
    vote("cy", { poll: "p2", option: 7 }), vote("dan", { poll: "p2", option: 1 }), vote("dan", { poll: "p2", option: 0 }));
  assert.deepEqual(countOf(state, pollOf(state)), [1, 1]);
});

test("mute all spares whom it names and who is on stage with audio, and what does not fit is nothing", () => {
  const { mute, stage, isMuted, muteOf, isChatOpen, chatRule, pollOf, seat, seatOf } = classroom;
  const state = stateOf(mute({ all: true, except: ["ann"] }), chatRule(false), seat("ann", { room: "math-2" }));
  assert.deepEqual([isMuted(state, "ann"), isMuted(state, "ben"), isChatOpen(state)], [false, true, false]);
  const on = stateOf(mute({ all: true }), stage("ann", { audio: true, video: false }), stage("ben", { audio: false, video: true }));
  assert.deepEqual([isMuted(on, "ann"), isMuted(on, "ben"), isMuted(stateOf(mute({ all: true }), stage("ann", null)), "ann")], [false, true, true]);
  assert.deepEqual(seatOf(state, "ann"), { room: "math-2" });
  assert.deepEqual(classroom.seatsOf(state), [{ member: "ann", seat: { room: "math-2" } }]);
  const odd = stateOf({ key: "room/mute", topic: "room", body: "all" }, { key: "poll/open", topic: "poll", body: { options: 3 } });
  assert.deepEqual([muteOf(odd), isMuted(odd, "ben"), pollOf(odd), isChatOpen(odd)], [null, false, null, true]);
});

test("whatever is written fits what a room takes", () => {
  const points = Array.from({ length: 2 * classroom.MAX_POINTS }, () => 10_000);
  const big = classroom.stroke(999, "f".repeat(32), { points, color: "#abcdef", width: 12 });
  // CBOR needs at most three bytes for such a number.
  assert.ok(points.length * 3 + 100 <= 16_384 && big.key.length <= 128);
});
