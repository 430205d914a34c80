// The client in Node against a real backbone: an edge is killed under it, and nothing is lost.

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../dist/index.js";
import { Backbone, within } from "./backbone.mjs";
import { WebSocket } from "./socket.mjs";

const EACH = 150;

test("an edge dies under a member who goes on at another, and the room stays whole", async () => {
  const backbone = await Backbone.start(["cn-shanghai", "hk", "sg"]);
  const clients = [];
  try {
    const [hk, sg] = [backbone.edge("hk"), backbone.edge("sg")];
    const told = { ann: [], ben: [] };
    const phases = [];
    const join = (who, urls) => {
      const client = connect({
        urls, room: "talk", WebSocket, onEvent: (event) => {
          if (event.type === "ev") told[who].push(event);
          if (event.type === "gap") told[who].push("gap");
          if (event.type === "status" && who === "ann") phases.push(event.phase);
        },
      });
      clients.push(client);
      return client;
    };
    const ann = join("ann", [hk.http, sg.http]);
    const ben = join("ben", [sg.http, hk.http]);
    await within("both are in the room", () => ann.phase === "open" && ben.phase === "open");

    await within("both are seen", () => ann.presence.count === 2 && ben.presence.members.includes(ben.member));

    // Both talk all the while; one edge is killed in the midst of it.
    const answers = { ann: [], ben: [] };
    for (let n = 1; n <= EACH; n++) {
      for (const [who, client] of [["ann", ann], ["ben", ben]]) {
        answers[who].push(client.publish({ topic: "chat", class: "log", body: { who, n } }));
        if (n % 10 === 0) answers[who].push(client.publish({ topic: "page", class: "state", key: `page/${who}`, body: { who, n } }));
      }
      if (n === EACH / 3) backbone.longspan("lab", "node", "kill", hk.id);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const places = [];
    for (const [who, all] of Object.entries(answers)) {
      const seqs = (await within(`everything of ${who} is answered`, Promise.all(all))).map(({ seq }) => seq);
      assert.deepEqual(seqs, [...seqs].sort((a, b) => a - b), "in the order it was said");
      places.push(...seqs);
    }
    const last = Math.max(...places);
    await within("both have seen everything", () => ann.seq >= last && ben.seq >= last);

    // Which one it is depends on whether it had asked for more of them by then.
    assert.notEqual(ann.url, hk.http);
    assert.ok(phases.includes("reconnecting"), `the edge was lost: ${phases}`);
    for (const who of ["ann", "ben"]) {
      const seqs = told[who].map((event) => event.seq);
      assert.deepEqual(seqs, seqs.map((_, i) => seqs[0] + i), `${who} sees one order without a hole or a repeat`);
      for (const from of ["ann", "ben"]) {
        const heard = told[who].filter(({ topic, body }) => topic === "chat" && body.who === from).map(({ body }) => body.n);
        assert.deepEqual(heard, Array.from({ length: EACH }, (_, i) => i + 1), `${who} hears ${from} whole`);
      }
    }
    assert.equal(new Set(places).size, places.length, "each has a place of its own");
    const sorted = ({ state }) => [...state].sort();
    assert.deepEqual(sorted(ann), sorted(ben));
    assert.equal(ann.state.get("page/ann").body.n, EACH);

    // Whoever comes late has the state, and a compare-and-set tells what stands there.
    const late = join("ben", [sg.http]);
    await within("a late one is in the room", () => late.phase === "open");
    assert.deepEqual(sorted(late), sorted(ann));
    const { revision } = late.state.get("page/ben");
    await late.publish({ topic: "page", class: "state", key: "page/ben", if: revision, body: "mine" });
    const stale = ann.publish({ topic: "page", class: "state", key: "page/ben", if: revision, body: "too late" });
    await assert.rejects(stale, ({ code, limit }) => code === "conflict" && limit > revision);
    await assert.rejects(ann.publish({ topic: "x".repeat(65), class: "log" }), ({ code, limit }) => code === "too_long" && limit === 64);
    const stranger = connect({ urls: [sg.http], room: "talk", token: "not.a.token", WebSocket });
    clients.push(stranger);
    const left = new Promise((resolve) => stranger.on("status", ({ phase, error }) => { if (phase === "closed") resolve(error); }));
    assert.equal((await within("a bad token is told", left)).code, "token_invalid");
    for (const client of [ann, ben, late]) client.close();
    await assert.rejects(ann.publish({ topic: "chat", class: "log" }), { code: "closed" });
  } finally {
    // One that goes on trying would keep the process alive.
    for (const client of clients) client.close();
    await backbone.stop();
  }
});

test("an edge that stops sends its members on, and none of their messages is lost or told unknown", async () => {
  const backbone = await Backbone.start(["cn-shanghai", "hk", "sg"]);
  let client;
  try {
    const [hk, sg] = [backbone.edge("hk"), backbone.edge("sg")];
    const seen = [];
    const went = [];
    client = connect({ urls: [hk.http, sg.http], room: "talk", WebSocket });
    client.on("ev", ({ seq, topic }) => { if (topic === "chat") seen.push(seq); });
    client.on("goaway", ({ alternatives }) => went.push(alternatives));
    await within("it is in the room", () => client.phase === "open");
    assert.equal(client.url, hk.http);
    const answers = [];
    for (let n = 1; n <= 100; n++) {
      answers.push(client.publish({ topic: "chat", class: "log", body: n }));
      if (n === 30) process.kill(backbone.pid(hk.id), "SIGTERM");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const places = (await within("everything is answered", Promise.all(answers))).map(({ seq }) => seq);
    await within("everything is seen", () => client.seq >= places.at(-1));
    assert.deepEqual(seen, places);
    assert.notEqual(client.url, hk.http);
    assert.ok(went.length === 1 && went[0].includes(sg.http), `where to go was told: ${JSON.stringify(went)}`);
  } finally {
    client?.close();
    await backbone.stop();
  }
});
