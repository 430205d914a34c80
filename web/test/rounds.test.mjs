import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./module.mjs";

const { Rounds, PAUSE_MS, MAX_PAUSE_MS } = await load("../client/src/rounds.ts");

test("the next edge is tried at once, and pauses come when all failed", () => {
  const rounds = new Rounds();
  assert.equal(rounds.offer(["a", "b", "c"]), true);
  const pauses = [];
  const order = [];
  for (let i = 0; i < 7; i++) {
    order.push(rounds.current());
    pauses.push(rounds.next());
  }
  assert.deepEqual(order, ["a", "b", "c", "a", "b", "c", "a"]);
  assert.deepEqual(pauses, [0, 0, PAUSE_MS, PAUSE_MS, PAUSE_MS, 2 * PAUSE_MS, 2 * PAUSE_MS]);
  for (let i = 0; i < 60; i++) assert.ok(rounds.next() <= MAX_PAUSE_MS);
  rounds.good();
  assert.equal(rounds.next(), 0);
});

test("an edge that joins or leaves moves nobody, another best one does", () => {
  const rounds = new Rounds();
  rounds.offer(["a", "b"]);
  rounds.next();
  assert.equal(rounds.offer(["a", "b", "c"]), false);
  assert.equal(rounds.current(), "b");
  assert.equal(rounds.offer(["a", "c"]), true, "the one in use left");
  assert.equal(rounds.current(), "a");
  assert.equal(rounds.offer(["c", "a"]), true);
  assert.equal(rounds.current(), "c");
  assert.equal(rounds.offer([]), true);
  assert.equal(rounds.current(), null);
});
