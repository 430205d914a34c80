// The simulation looks: a client with one wrong line is caught.

import assert from "node:assert/strict";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { live } from "./life.mjs";

const DIST = fileURLToPath(new URL("../dist", import.meta.url));
const SEEDS = 150;

/** What is wrong, the file, the line's part, and what it becomes. */
const MUTANTS = [
  ["repeats are delivered", "reader.js", "if (ev.seq <= this.seq)\n            return [];\n        this.skipped -= ev.seq - this.seq - 1;", ""],
  ["it resumes one too far", "reader.js", "{ seq: this.seq, log: this.log }", "{ seq: this.seq + 1, log: this.log }"],
  ["the place moves before the state is whole", "reader.js", "this.gap = gap;", "this.gap = gap; this.seq = gap.to;"],
  ["a piece of the state replaces the one before", "reader.js", "this.loading ??= new Map()", "this.loading = new Map()"],
  ["deletions are kept", "reader.js", "state.delete(key)", "state.set(key, { revision, from, at, topic, body })"],
  ["what is sent again has a new number", "outbox.js", "const n = item.n || this.n + 1", "const n = this.n + 1"],
  ["only what was not sent is sent", "outbox.js", "for (const item of this.items)\n            item.isUnderWay = false;", ""],
  ["numbers that never come are left out", "outbox.js", "if (hole < n)", "if (false)"],
  ["later is never", "outbox.js", "if (LATER.has(said.error)) {\n            item.later", "if (false) {\n            item.later"],
  ["what may have been taken is sent again in a new session", "outbox.js", "const sent = this.items.filter(({ n }) => n > 0);", "const sent = []; for (const item of this.items) item.n = 0;"],
  ["a silent edge is believed", "core.js", "link.deadline = this.now + SUSPECT_MS", "link.deadline = Infinity"],
];

for (const [what, file, from, to] of MUTANTS) {
  test(what, async () => {
    const folder = await mkdtemp(join(tmpdir(), "longspan-mutant-"));
    try {
      await cp(DIST, folder, { recursive: true });
      await writeFile(join(folder, "package.json"), '{ "type": "module" }');
      const text = await readFile(join(folder, file), "utf8");
      assert.equal(text.split(from).length, 2, `${file} has this once: ${from}`);
      await writeFile(join(folder, file), text.replace(from, () => to));
      const { Core } = await import(pathToFileURL(join(folder, "core.js")).href);
      assert.throws(() => { for (let seed = 0; seed < SEEDS; seed++) live(Core, seed); }, `${SEEDS} seeds do not notice`);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
}
