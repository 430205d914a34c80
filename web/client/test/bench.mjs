// How long a member cannot publish when its edge is lost: `node web/client/test/bench.mjs [RUNS]`.
// LONGSPAN_BIN names a release build. Prints JSON, in ms from the loss to the next ack.

import { connect } from "../dist/index.js";
import { Backbone, within } from "./backbone.mjs";
import { WebSocket } from "./socket.mjs";

const RUNS = Number(process.argv[2] ?? 20);
const LOSSES = { killed: ["kill", "restart"], frozen: ["stop", "continue"] };

const backbone = await Backbone.start(["cn-shanghai", "hk", "sg"]);
try {
  const [hk, sg] = [backbone.edge("hk"), backbone.edge("sg")];
  const result = {};
  for (const [how, [lose, heal]] of Object.entries(LOSSES)) {
    const times = [];
    for (let run = 0; run < RUNS; run++) {
      const client = connect({ urls: [hk.http, sg.http], room: "bench", WebSocket });
      await within("it is in the room at the first edge", () => client.phase === "open" && client.url === hk.http);
      // The session is known to the room, and the loss comes at any point between two pings.
      await client.publish({ topic: "chat", class: "log", body: 0 });
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 2_000));
      backbone.longspan("lab", "node", lose, hk.id);
      const lost = performance.now();
      await within("it is answered", client.publish({ topic: "chat", class: "log", body: 1 }));
      times.push(Math.round(performance.now() - lost));
      client.close();
      backbone.longspan("lab", "node", heal, hk.id);
      await within("the edge is back", async () => (await fetch(`${hk.http}/edges`, { signal: AbortSignal.timeout(1_000) }).catch(() => null))?.ok);
    }
    times.sort((a, b) => a - b);
    result[how] = { runs: RUNS, min: times[0], median: times[Math.floor(RUNS / 2)], max: times.at(-1) };
  }
  console.log(JSON.stringify(result));
} finally {
  await backbone.stop();
}
