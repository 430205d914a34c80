// The tokens of docs/classroom.md, as they stand there: a student may do what a student does, the
// teacher the rest.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import * as classroom from "../dist/classroom.js";
import { connect } from "../dist/index.js";
import { Backbone, within } from "./backbone.mjs";
import { WebSocket } from "./socket.mjs";

const DOC = new URL("../../../docs/classroom.md", import.meta.url);

/** The claims that the page shows, by their subject. */
async function claims() {
  const found = new Map();
  for (const [, json] of (await readFile(DOC, "utf8")).matchAll(/```json\n(\{"sub"[^`]*)```/g)) {
    const claim = JSON.parse(json);
    found.set(claim.sub, claim);
  }
  return found;
}

/** A JWT (RFC 7515, HS256). */
function sign(id, secret, claim) {
  const part = (it) => Buffer.from(JSON.stringify(it)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT", kid: id })}.${part({ ...claim, exp: Math.floor(Date.now() / 1_000) + 600 })}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}

test("a student and a teacher may do what the schema says", async () => {
  const backbone = await Backbone.start(["cn-shanghai", "hk", "sg"]);
  try {
    const [, id, secret] = /^(\S+) = "(.+)"$/m.exec(await readFile(join(backbone.data, "jwt-keys.toml"), "utf8"));
    const known = await claims();
    const join_ = (sub) => connect({ urls: [backbone.edge("hk").http], room: "math", token: sign(id, secret, known.get(sub)), WebSocket });
    const [anna, li] = [join_("anna"), join_("ms-li")];
    await within("both are in the room", () => anna.phase === "open" && li.phase === "open");
    assert.deepEqual([anna.member, li.member], ["anna", "ms-li"]);

    const { raiseHand, lowerHand, stage, say, chatRule, mute, turnTo, stroke, drawing, ask, vote, divide, seat } = classroom;
    const line = { points: [0, 0, 9, 9], color: "#000", width: 40 };
    const poll = { id: "p", question: "?", options: ["yes", "no"], open: true };
    const everybody = (me) => [say("hello"), raiseHand(me), vote(me, { poll: "p", option: 0 }), lowerHand(me)];
    const teacher = [
      chatRule(true), mute({ all: true }), mute(null), lowerHand("anna"), stage("anna", { audio: true, video: true }), stage("anna", null),
      turnTo({ page: 2 }), stroke(2, "a", line), drawing("ms-li", { ...line, page: 2 }), stroke(2, "a", null),
      ask(poll), ask(null), divide({ rooms: [{ room: "math-1" }] }), seat("anna", { room: "math-1" }), divide(null),
    ];
    for (const message of everybody("anna")) await anna.publish(message);
    for (const message of [...everybody("ms-li"), ...teacher]) await li.publish(message);
    for (const message of [...teacher.filter(({ key }) => key !== "hand/anna"), raiseHand("ms-li"), vote("ms-li", { poll: "p", option: 0 })]) {
      await assert.rejects(anna.publish(message), ({ code }) => /^forbidden/.test(code), `${message.topic} ${message.key}`);
    }
    // She was refused a lot, and is as good as before.
    const { seq } = await anna.publish(say("still here"));
    await within("the teacher hears her", () => li.seq >= seq);
    for (const client of [anna, li]) client.close();
  } finally {
    await backbone.stop();
  }
});
