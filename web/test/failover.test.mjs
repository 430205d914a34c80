import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./module.mjs";

const { Failover, ATTEMPT_MS, HOME_MS, PENALTY_MS, PROBE_MS, RETRY_MS, SILENCE_MS, STAGGER_MS, STALE_MS } =
  await load("failover.ts");

/** Edges that feed, are dead or are silent, and a player's failover among them, in virtual time. */
class World {
  constructor(...edges) {
    this.now = 1_000;
    this.core = new Failover();
    this.edges = Object.fromEntries(edges.map((edge) => [edge, "up"]));
    this.connected = new Set();
    this.log = [];
    this.probes = true;
    this.core.offer(this.now, edges[0], edges.slice(1));
  }

  /** `state`: up (feeds), dead (refuses), mute (takes connections, sends nothing), stale (sends what
   *  is not newer). */
  set(edge, state) {
    this.edges[edge] = state;
    if (state === "dead" && this.connected.delete(edge)) this.core.lost(this.now, edge, "connection lost");
    this.drain();
  }

  run(ms) {
    for (const end = this.now + ms; this.now < end; this.now += 10) {
      for (const edge of this.connected) {
        if (this.edges[edge] === "up" || this.edges[edge] === "stale") this.core.fed(this.now, edge, this.edges[edge] === "up");
      }
      this.drain();
      assert.ok(this.core.due() > this.now, "the next poll is in the future");
    }
    return this;
  }

  drain() {
    for (let action; (action = this.core.poll(this.now)) !== null;) {
      const { edge } = action;
      if (action.do === "probe") {
        this.core.healthy(this.now, edge, this.edges[edge] === "up" && this.probes);
        continue;
      }
      this.log.push(`${this.now - 1_000} ${action.do} ${edge}${action.why ? `: ${action.why}` : ""}`);
      if (action.do === "use") this.connected = new Set([edge]);
      else if (action.do === "drop") this.connected.delete(edge);
      else if (this.edges[edge] === "dead") this.core.lost(this.now, edge, "refused");
      else this.connected.add(edge);
    }
  }

  said() {
    return this.log.splice(0);
  }
}

test("the wanted edge feeds and nothing else is tried", () => {
  const world = new World("sg", "hk", "us");
  assert.deepEqual(world.run(5_000).said(), ["0 connect sg", "10 use sg"]);
});

test("a pause just under the silence moves nobody, one just over it does", () => {
  const world = new World("sg", "hk").run(1_000);
  world.said();
  world.edges.sg = "mute";
  world.run(SILENCE_MS - 10);
  world.edges.sg = "up";
  world.run(500);
  assert.deepEqual(world.said(), []);
  world.edges.sg = "mute";
  world.run(SILENCE_MS + 20);
  const said = world.said().map((line) => line.replace(/^\d+ /, ""));
  assert.deepEqual(said, ["connect hk", `use hk: silence ${SILENCE_MS} ms`]);
});

test("a connection that breaks is not waited for", () => {
  const world = new World("sg", "hk").run(1_000);
  world.said();
  world.set("sg", "dead");
  assert.deepEqual(world.run(20).said(), ["1000 connect hk", "1000 use hk: connection lost"]);
});

test("an edge that does not answer is passed over for the next, which is tried beside it", () => {
  const world = new World("sg", "hk", "us").run(1_000);
  world.said();
  world.edges.sg = world.edges.hk = "mute";
  world.run(2_000);
  const connect = 1_000 + SILENCE_MS - 10;
  assert.deepEqual(world.said(), [
    `${connect} connect hk`,
    `${connect + STAGGER_MS} connect us`,
    `${connect + STAGGER_MS + 10} use us: silence ${SILENCE_MS + STAGGER_MS} ms`,
  ]);
});

test("an edge that comes back before another delivered keeps its viewer", () => {
  const world = new World("sg", "hk").run(1_000);
  world.edges.hk = "mute";
  world.edges.sg = "mute";
  world.run(SILENCE_MS + 50);
  world.said();
  world.edges.sg = "up";
  world.run(100);
  assert.deepEqual(world.said().map((line) => line.replace(/^\d+ /, "")), ["drop hk"]);
  assert.equal(world.core.edge, "sg");
});

test("where nothing newer comes from anywhere, nobody moves and nobody is to blame", () => {
  const world = new World("sg", "hk", "us").run(1_000);
  world.said();
  // The publisher is lost: edges replay what they have.
  world.edges.sg = "mute";
  world.edges.hk = world.edges.us = "stale";
  world.run(20_000);
  assert.ok(!world.said().some((line) => line.includes("use")));
  for (const edge of ["sg", "hk", "us"]) world.edges[edge] = "up";
  world.run(STALE_MS);
  assert.notEqual(world.core.edge, null);
  const uses = world.said().filter((line) => line.includes("use"));
  assert.equal(uses.length, 1, "one connection is used, once");
});

test("all edges dead: each is tried again, not oftener than the pause", () => {
  const world = new World("sg", "hk").run(1_000);
  world.set("hk", "dead");
  world.set("sg", "dead");
  world.said();
  world.run(10_000);
  const tries = world.said().length;
  assert.ok(tries > 10 && tries <= 2 * 10_000 / RETRY_MS, `${tries} attempts`);
  world.set("sg", "up");
  world.run(RETRY_MS + 50);
  assert.equal(world.core.edge, "sg");
  assert.deepEqual([...world.connected], ["sg"]);
});

test("a lone edge that falls silent is connected anew", () => {
  const world = new World("sg").run(1_000);
  world.edges.sg = "mute";
  world.said();
  world.run(STALE_MS + 100);
  assert.deepEqual(world.said().map((line) => line.replace(/^\d+ /, "")), ["drop sg", "connect sg"]);
  world.edges.sg = "up";
  world.run(100);
  assert.match(world.said()[0], /use sg/);
});

test("it goes home after a while of health, and not sooner each time it was disappointed", () => {
  const world = new World("sg", "hk").run(1_000);
  const away = () => {
    world.said();
    world.set("sg", "dead");
    world.run(50);
    assert.equal(world.core.edge, "hk");
    world.set("sg", "up");
    const left = world.now;
    while (world.core.edge !== "sg" && world.now - left < 600_000) world.run(10);
    return world.now - left;
  };
  const waits = [away(), away(), away(), away()];
  assert.ok(waits[0] >= HOME_MS && waits[0] <= HOME_MS + 2 * PROBE_MS, `${waits}`);
  assert.ok(waits[3] >= 8 * PENALTY_MS, `${waits}`);
  assert.match(world.said().at(-1), /use sg: healthy again/);
  // Long good, and it is forgiven.
  world.run(61_000);
  assert.ok(away() <= HOME_MS + 2 * PROBE_MS);
});

test("a home that is healthy now and then is not gone back to", () => {
  const world = new World("sg", "hk").run(1_000);
  world.set("sg", "dead");
  world.run(50);
  world.set("sg", "up");
  world.said();
  for (let i = 0; i < 20; i++) {
    world.probes = true;
    world.run(HOME_MS - PROBE_MS);
    world.probes = false;
    world.run(PROBE_MS);
  }
  assert.deepEqual(world.said(), []);
});

test("who chooses another edge sees the old one until the new one delivers", () => {
  const world = new World("sg", "hk").run(1_000);
  world.edges.hk = "mute";
  world.said();
  world.core.offer(world.now, "hk", ["sg"]);
  world.run(1_000);
  assert.equal(world.core.edge, "sg");
  world.edges.hk = "up";
  world.run(50);
  assert.equal(world.core.edge, "hk");
  assert.deepEqual(world.said().map((line) => line.replace(/^\d+ /, "")), ["connect hk", "use hk: chosen"]);
});

test("a chosen edge that never delivers is given up, and gone to when it is healthy", () => {
  const world = new World("sg", "hk").run(1_000);
  world.edges.hk = "mute";
  world.core.offer(world.now, "hk", ["sg"]);
  world.run(ATTEMPT_MS + 100);
  assert.deepEqual([...world.connected], ["sg"]);
  world.edges.hk = "up";
  world.run(HOME_MS + 2 * PROBE_MS);
  assert.equal(world.core.edge, "hk");
});

test("after a reset nothing is connected until edges are offered", () => {
  const world = new World("sg", "hk").run(1_000);
  world.core.reset();
  assert.equal(world.core.poll(world.now), null);
  assert.equal(world.core.due(), Infinity);
  world.connected.clear();
  world.core.offer(world.now, "hk", ["sg"]);
  world.run(50);
  assert.equal(world.core.edge, "hk");
});
