// The room's messages over a WebSocket: reconnects, resumes after the last message seen, and
// sends what was not acknowledged again (safe: the number `n` makes it count once).

import { withToken } from "./api";

const RETRY_MIN = 300;
const RETRY_MAX = 10_000;
/** Written but not acknowledged; more is refused until the room answers. */
const MAX_UNACKED = 50;

export interface RoomEvent { seq?: number; from: string; topic: string; body: unknown }
export interface MessageEvents {
  event(event: RoomEvent): void;
  note(text: string): void;
  connected(member: string | null): void;
}
interface Publish { t: "pub"; n: number; class: "log"; topic: string; body: unknown }

export class RoomMessages {
  private readonly session = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
  private socket: WebSocket | null = null;
  private seen = 0;
  private n = 0;
  private unacked: Publish[] = [];
  private wait = RETRY_MIN;
  private closed = false;
  private open = false;

  constructor(private url: string, private readonly events: MessageEvents) {
    this.connect();
  }

  /** Says `text` to the room. False: too much is waiting for an answer. */
  say(text: string): boolean {
    if (this.unacked.length >= MAX_UNACKED) return false;
    const publish: Publish = { t: "pub", n: ++this.n, class: "log", topic: "chat", body: { text } };
    this.unacked.push(publish);
    if (this.open) this.send(publish);
    return true;
  }

  /** Goes on at another edge, with the same session. */
  move(url: string): void {
    if (url === this.url) return;
    this.url = url;
    this.wait = RETRY_MIN;
    this.socket?.close();
  }

  close(): void {
    this.closed = true;
    this.socket?.close();
  }

  private connect(): void {
    const socket = new WebSocket(withToken(this.url), "longspan.v1+json");
    this.socket = socket;
    socket.onopen = () => this.send({ t: "hello", session: this.session, ...(this.seen > 0 && { resume: { seq: this.seen } }) });
    socket.onmessage = (message) => this.receive(JSON.parse(message.data as string));
    socket.onclose = () => {
      this.open = false;
      this.events.connected(null);
      if (this.closed) return;
      setTimeout(() => this.connect(), this.wait);
      this.wait = Math.min(this.wait * 2, RETRY_MAX);
    };
  }

  private send(message: unknown): void {
    this.socket?.send(JSON.stringify(message));
  }

  private receive(message: any): void {
    switch (message.t) {
      case "welcome":
        this.open = true;
        this.wait = RETRY_MIN;
        // Without a resume the history begins here; with one, the events since are on their way.
        if (this.seen === 0) this.seen = message.seq ?? 0;
        this.unacked = this.unacked.filter((publish) => publish.n > (message.n ?? 0));
        for (const publish of this.unacked) this.send(publish);
        this.events.connected(message.member);
        break;
      case "ack":
        this.unacked = this.unacked.filter((publish) => publish.n !== message.n);
        break;
      case "ev": this.deliver(message); break;
      case "evs": for (const event of message.evs) this.deliver(event); break;
      case "gap":
        this.events.note(`messages ${message.from}–${message.to} are no longer held`);
        this.seen = Math.max(this.seen, message.to);
        break;
      case "err":
        this.unacked = this.unacked.filter((publish) => publish.n !== message.n);
        this.events.note(message.message);
        break;
      case "goaway": this.socket?.close(); break;
    }
  }

  private deliver(event: RoomEvent): void {
    if (event.seq !== undefined) {
      if (event.seq <= this.seen) return;
      this.seen = event.seq;
    }
    this.events.event(event);
  }
}
