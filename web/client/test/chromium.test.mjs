// The client in Chromium, as it is installed: no bundler, its own WebSocket, another origin.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { test } from "node:test";
import { Backbone, within } from "./backbone.mjs";
import { Page } from "./chromium.mjs";

const EACH = 100;

/** Serves a page, and the modules beside it. */
async function serve(html) {
  const server = createServer(async ({ url }, answer) => {
    const module = /^\/dist\/(\w+\.js)$/.exec(url)?.[1];
    const body = module && await readFile(new URL(`../dist/${module}`, import.meta.url)).catch(() => null);
    answer.setHeader("content-type", module ? "text/javascript" : "text/html");
    answer.statusCode = module && !body ? 404 : 200;
    answer.end(body ?? html);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

test("an edge that freezes is left, and nothing is lost or repeated", async () => {
  const backbone = await Backbone.start(["cn-shanghai", "hk", "sg"]);
  const undo = [() => backbone.stop()];
  try {
    const [hk, sg] = [backbone.edge("hk"), backbone.edge("sg")];
    const server = await serve(`<!doctype html><script type="module">
      import { connect } from "/dist/index.js";
      const seen = [], answers = [];
      const client = connect({ urls: ${JSON.stringify([hk.http, sg.http])}, room: "talk" });
      client.on("ev", ({ seq, topic, body }) => { if (topic === "chat") seen.push([seq, body]); });
      const say = (n) => answers.push(client.publish({ topic: "chat", class: "log", body: n }).then(({ seq }) => seq));
      Object.assign(window, { client, seen, answers, say });
    </script>`);
    undo.push(() => server.close());
    const page = await Page.open(`http://127.0.0.1:${server.address().port}/`);
    undo.push(() => page.close());
    await within("the page is in the room", () => page.eval("window.client?.phase === 'open'"));
    assert.equal(await page.eval("client.url"), hk.http);

    // Frozen: nothing is closed, nothing is answered.
    await page.eval(`let n = 0; const timer = setInterval(() => { say(++n); if (n === ${EACH}) clearInterval(timer); }, 20); 1`);
    await within("half is said", () => page.eval(`answers.length >= ${EACH / 2}`));
    backbone.longspan("lab", "node", "stop", hk.id);
    await within("it goes on elsewhere", () => page.eval(`![null, ${JSON.stringify(hk.http)}].includes(client.url)`));
    await within("everything is said", () => page.eval(`answers.length === ${EACH}`));
    const places = await within("everything is answered", page.eval("Promise.all(answers)"));
    await within("everything is seen", () => page.eval(`client.seq >= ${Math.max(...places)}`));
    const seen = await page.eval("seen");
    assert.deepEqual(seen, places.map((seq, i) => [seq, i + 1]));
    assert.deepEqual(places, [...new Set(places)].sort((a, b) => a - b));
    backbone.longspan("lab", "node", "continue", hk.id);
  } finally {
    for (const it of undo.reverse()) await it();
  }
});
