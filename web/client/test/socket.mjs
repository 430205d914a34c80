// A WebSocket for tests, over node:net: no Node before 22 has one without a flag, and tests run
// without npm. What RFC 6455 asks of a client that sends short text messages, and no more.

import { randomBytes, webcrypto } from "node:crypto";
import { connect } from "node:net";

globalThis.crypto ??= webcrypto; // Node 18

const [TEXT, CLOSE, PING, PONG] = [1, 8, 9, 10];

export class WebSocket {
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;
  #socket;
  #rest = Buffer.alloc(0);
  #isOpen = false;
  #text = [];
  #close = { code: 1006, reason: "" };

  constructor(address, protocols = []) {
    const url = new URL(address);
    this.#socket = connect(Number(url.port || 80), url.hostname, () => this.#socket.write([
      `GET ${url.pathname}${url.search} HTTP/1.1`, `Host: ${url.host}`, "Upgrade: websocket", "Connection: Upgrade",
      `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`, "Sec-WebSocket-Version: 13",
      ...(protocols.length > 0 ? [`Sec-WebSocket-Protocol: ${protocols.join(", ")}`] : []), "\r\n",
    ].join("\r\n")));
    this.#socket.setNoDelay();
    this.#socket.on("data", (data) => this.#read(data));
    this.#socket.on("error", () => this.onerror?.({}));
    this.#socket.on("close", () => this.onclose?.(this.#close));
  }

  send(text) { if (this.#isOpen) this.#write(TEXT, Buffer.from(text)); }

  close() {
    if (this.#isOpen) this.#write(CLOSE, Buffer.from([1000 >> 8, 1000 & 0xff]));
    this.#socket.destroySoon();
  }

  #write(kind, body) {
    const mask = randomBytes(4);
    const length = body.length < 126 ? Buffer.from([0x80 | body.length])
      : body.length < 65_536 ? Buffer.from([0xfe, body.length >> 8, body.length & 0xff])
      : Buffer.concat([Buffer.from([0xff, 0, 0, 0, 0]), Buffer.from([body.length >>> 24, (body.length >> 16) & 0xff, (body.length >> 8) & 0xff, body.length & 0xff])]);
    this.#socket.write(Buffer.concat([Buffer.from([0x80 | kind]), length, mask, body.map((byte, i) => byte ^ mask[i % 4])]));
  }

  #read(data) {
    this.#rest = Buffer.concat([this.#rest, data]);
    if (!this.#isOpen) {
      const end = this.#rest.indexOf("\r\n\r\n");
      if (end < 0) return;
      const status = this.#rest.toString("latin1", 0, end).split(" ")[1];
      if (status !== "101") {
        this.#close = { code: 1006, reason: `HTTP ${status}` };
        return this.#socket.destroy();
      }
      this.#rest = this.#rest.subarray(end + 4);
      this.#isOpen = true;
      this.onopen?.({});
    }
    for (let frame = this.#frame(); frame; frame = this.#frame()) {
      const { kind, isLast, body } = frame;
      if (kind <= TEXT) {
        this.#text.push(body);
        if (isLast) this.onmessage?.({ data: Buffer.concat(this.#text.splice(0)).toString() });
      } else if (kind === PING) {
        this.#write(PONG, body);
      } else if (kind === CLOSE) {
        if (body.length >= 2) this.#close = { code: body.readUInt16BE(), reason: body.toString("utf8", 2) };
        this.close();
      }
    }
  }

  #frame() {
    const rest = this.#rest;
    if (rest.length < 2) return null;
    let [length, at] = [rest[1] & 0x7f, 2];
    if (length === 126) {
      if (rest.length < 4) return null;
      [length, at] = [rest.readUInt16BE(2), 4];
    } else if (length === 127) {
      if (rest.length < 10) return null;
      [length, at] = [Number(rest.readBigUInt64BE(2)), 10];
    }
    if (rest.length < at + length) return null;
    this.#rest = rest.subarray(at + length);
    return { kind: rest[0] & 15, isLast: (rest[0] & 0x80) !== 0, body: rest.subarray(at, at + length) };
  }
}
