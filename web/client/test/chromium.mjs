// A headless Chromium, told what to do over its DevTools protocol.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { within } from "./backbone.mjs";
import { WebSocket } from "./socket.mjs";

export class Page {
  #next = 0;
  #waiting = new Map();
  #session;

  /** Starts the browser and opens `url`. */
  static async open(url, size = "1280,800") {
    const page = new Page();
    page.profile = await mkdtemp(join(tmpdir(), "longspan-chromium-"));
    page.process = spawn("chromium", [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio",
      "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
      "--remote-debugging-port=0", `--window-size=${size}`, `--user-data-dir=${page.profile}`,
    ], { stdio: ["ignore", "ignore", "pipe"] });
    page.ended = new Promise((resolve) => page.process.on("exit", resolve));
    try {
      const devtools = new Promise((resolve, reject) => {
        page.process.on("error", reject);
        page.process.on("exit", () => reject(new Error("chromium ended without naming its DevTools address")));
        createInterface({ input: page.process.stderr }).on("line", (line) => {
          const found = /DevTools listening on (\S+)/.exec(line);
          if (found) resolve(found[1]);
        });
      });
      page.socket = new WebSocket(await within("chromium is there", devtools));
      await within("DevTools answers", new Promise((resolve) => { page.socket.onopen = resolve; }));
      page.socket.onmessage = ({ data }) => page.#answered(JSON.parse(data));
      const { targetId } = await page.call("Target.createTarget", { url });
      page.#session = (await page.call("Target.attachToTarget", { targetId, flatten: true })).sessionId;
    } catch (error) {
      await page.close();
      throw error;
    }
    return page;
  }

  /** Evaluates an expression in the page. */
  async eval(expression) {
    const { result, exceptionDetails } = await this.call("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  }

  /** A PNG of what is seen. */
  async screenshot() { return Buffer.from((await this.call("Page.captureScreenshot", { format: "png" })).data, "base64"); }

  call(method, params) {
    const id = ++this.#next;
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    this.socket.send(JSON.stringify({ id, method, params, ...(this.#session && { sessionId: this.#session }) }));
    return within(`${method} is answered`, answer);
  }

  #answered({ id, result, error }) {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) waiting?.reject(new Error(error.message));
    else waiting?.resolve(result);
  }

  async close() {
    this.socket?.close();
    if (this.process.exitCode === null && this.process.pid) {
      this.process.kill("SIGKILL");
      await this.ended;
    }
    await rm(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
