// `longspan up` as a test sees it.

import { execFileSync, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const BINARY = process.env.LONGSPAN_BIN ?? fileURLToPath(new URL("../../../target/debug/longspan", import.meta.url));
/** For anything that happens by itself, in a debug build on a busy machine. */
const BOUND_MS = 60_000;

/** Waits for a promise, or until a condition holds. */
export async function within(what, awaited) {
  const end = Date.now() + BOUND_MS;
  const late = () => new Error(`not within ${BOUND_MS} ms: ${what}`);
  if (typeof awaited !== "function") {
    let timer;
    const bound = new Promise((_, reject) => { timer = setTimeout(() => reject(late()), BOUND_MS); });
    return Promise.race([awaited, bound]).finally(() => clearTimeout(timer));
  }
  for (;;) {
    const held = await awaited();
    if (held) return held;
    if (Date.now() > end) throw late();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export class Backbone {
  /** Free ports, a data directory of its own, no media. */
  static async start(regions) {
    const it = new Backbone();
    it.data = await mkdtemp(join(tmpdir(), "longspan-client-"));
    const args = ["up", "-o", "json", "--port-base", "auto", "--no-sample", "--regions", regions.join(","), "--data-dir", it.data];
    it.process = spawn(BINARY, args, { stdio: ["ignore", "pipe", "ignore"] });
    it.ended = new Promise((resolve) => it.process.on("exit", resolve));
    const ready = new Promise((resolve, reject) => {
      it.process.on("error", reject);
      it.process.on("exit", (code) => reject(new Error(`${BINARY} ended with ${code}`)));
      createInterface({ input: it.process.stdout }).once("line", (line) => resolve(JSON.parse(line)));
    });
    try {
      it.info = await within("the backbone is ready", ready);
    } catch (error) {
      await it.stop();
      throw error;
    }
    return it;
  }

  edge(name) { return this.info.regions.find(({ region }) => region === name).edge; }

  /** An operator's command. */
  longspan(...args) {
    return execFileSync(BINARY, args, { env: { ...process.env, LONGSPAN_DATA_DIR: this.data }, encoding: "utf8", timeout: BOUND_MS });
  }

  /** A node's process. */
  pid(id) { return JSON.parse(this.longspan("lab", "node", "ls", "-o", "json")).find((node) => node.id === id).pid; }

  async stop() {
    // Its nodes end with it.
    if (this.process.exitCode === null && this.process.pid) {
      this.process.kill("SIGTERM");
      const timer = setTimeout(() => this.process.kill("SIGKILL"), 10_000);
      await this.ended;
      clearTimeout(timer);
    }
    await rm(this.data, { recursive: true, force: true });
  }
}
