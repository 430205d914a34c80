import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./module.mjs";

const { History, FADE_MS, reasonOf } = await load("path.ts");

/** "bj bj sh hk": an edge and its relay in the first region, then a relay in each. */
const path = (text) => text.split(" ").map((region, i, all) => ({ region, node: `${region}-${i === 0 && region === all[1] ? "edge" : "relay"}-1` }));

test("the first path is no change, the same again neither, and none is not told", () => {
  const history = new History();
  assert.equal(history.now(0, path("bj bj sh hk")), null);
  assert.equal(history.now(1, path("bj bj sh hk")), null);
  assert.equal(history.now(2, []), null);
  assert.equal(history.now(3, path("bj bj sh hk")), null);
});

test("a change tells what was left and what is taken, and what was left fades", () => {
  const history = new History();
  history.now(0, path("bj bj sh hk sg"));
  const change = history.now(1_000, path("bj bj sh tokyo sg"));
  assert.equal(change.text, "sh → hk → sg left, now over tokyo");
  assert.deepEqual(history.fading(1_000 + FADE_MS - 1), [{ hop: "sh>hk", since: 1_000 }, { hop: "hk>sg", since: 1_000 }]);
  assert.deepEqual(history.fading(1_000 + FADE_MS), []);
  assert.equal(history.now(2_000, path("bj bj sg")).text, "bj → sh → tokyo → sg left, now bj → sg");
  assert.equal(history.now(3_000, path("bj bj sh sg")).text, "bj → sg left, now over sh");
});

test("what several changes left fades each in its time, and what is taken again does not", () => {
  const history = new History();
  history.now(0, path("bj bj sh hk sg"));
  history.now(1_000, path("bj bj hk sg"));
  history.now(2_000, path("bj bj sg"));
  assert.deepEqual(history.fading(2_000).map(({ hop }) => hop), ["bj>sh", "sh>hk", "bj>hk", "hk>sg"]);
  assert.deepEqual(history.fading(1_000 + FADE_MS), [{ hop: "bj>hk", since: 2_000 }, { hop: "hk>sg", since: 2_000 }]);
  history.now(1_000 + FADE_MS, path("bj bj hk sg"));
  assert.deepEqual(history.fading(1_000 + FADE_MS).map(({ hop }) => hop), ["bj>sg"]);
});

test("another node of the same region is told by its name", () => {
  const history = new History();
  history.now(0, [{ node: "hk-relay-1", region: "hk" }, { node: "sg-relay-1", region: "sg" }]);
  const change = history.now(1, [{ node: "hk-relay-2", region: "hk" }, { node: "sg-relay-1", region: "sg" }]);
  assert.equal(change.text, "now over hk-relay-2");
});

test("the controller's reason is found by a link in common, in either direction, and in time", () => {
  const history = new History();
  history.now(0, path("bj bj sh hk sg"));
  const change = history.now(5_000, path("bj bj sh sg"));
  const at = (at_ms, from, to, before, after, reason) => ({ at_ms, from: `${from}-relay-1`, to: `${to}-relay-1`, before: before.map((n) => `${n}-relay-1`), after: after.map((n) => `${n}-relay-1`), reason });
  const other = at(5_000, "us", "de", ["de"], ["uk", "de"], "unrelated");
  const towards = at(6_000, "sh", "sg", ["hk", "sg"], ["sg"], "hk-sg is down");
  const back = at(6_100, "sg", "sh", ["hk", "sh"], ["sh"], "sg-hk is down");
  assert.equal(reasonOf(change, [other]), null);
  assert.equal(reasonOf(change, [other, towards]), "hk-sg is down");
  assert.equal(reasonOf(change, [back]), "sg-hk is down");
  assert.equal(reasonOf(change, [at(60_000, "sh", "sg", ["hk", "sg"], ["sg"], "late")]), null);
});
