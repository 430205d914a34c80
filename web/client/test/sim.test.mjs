// The client in a simulated world where connections break at any point: exactly once, in order.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Core } from "../dist/core.js";
import { live } from "./life.mjs";

const SEEDS = Number(process.env.SEEDS ?? 300);
const FIRST = Number(process.env.SEED ?? 0);

test(`${SEEDS} seeds: nothing is lost, repeated or out of order`, () => {
  const sum = { opened: 0, gaps: 0, sessions: 0, conflicts: 0, refilled: 0, skipped: 0 };
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    let counts;
    try {
      counts = live(Core, seed);
    } catch (error) {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    }
    for (const what in sum) sum[what] += counts[what];
  }
  if (SEEDS >= 100) for (const what in sum) assert.ok(sum[what] > 0, `the world was bad enough: ${JSON.stringify(sum)}`);
});
