// The room's messages over a WebSocket: goes on at another edge where one is lost, resumes after
// the last message seen, and sends what was not acknowledged again (safe: the number `n` makes it
// count once).

import { withToken } from "./api";
import { Rounds } from "./rounds";

/** A connection that is not welcomed within this, or whose ping is not answered, is left. */
const ANSWER_MS = 2_000;
/** How often a quiet connection is asked whether it is there. */
const PING_MS = 2_000;
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
  private readonly rounds = new Rounds();
  private seen = 0;
  private n = 0;
  private unacked: Publish[] = [];
  private open = false;
  private timer = 0;

  /** `urls`: the room's messages at each edge, best first. */
  constructor(urls: string[], private readonly events: MessageEvents) {
    this.at(urls);
  }

  /** Says `text` to the room. False: too much is waiting for an answer. */
  say(text: string): boolean {
    if (this.unacked.length >= MAX_UNACKED) return false;
    const publish: Publish = { t: "pub", n: ++this.n, class: "log", topic: "chat", body: { text } };
    this.unacked.push(publish);
    if (this.open) this.send(publish);
    return true;
  }

  /** Goes on at the first of these, with the same session. */
  at(urls: string[]): void {
    if (!this.rounds.offer(urls)) return;
    this.leave();
    this.connect();
  }

  close(): void {
    this.leave();
    this.rounds.offer([]);
  }

  /** Leaves the connection without waiting for the other side: it may be gone. */
  private leave(): void {
    clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
    if (this.open) this.events.connected(null);
    this.open = false;
  }

  private connect(): void {
    const url = this.rounds.current();
    if (url === null) return;
    const socket = new WebSocket(withToken(url), "longspan.v1+json");
    this.socket = socket;
    socket.onopen = () => this.send({ t: "hello", session: this.session, ...(this.seen > 0 && { resume: { seq: this.seen } }) });
    socket.onmessage = (message) => {
      this.expect(PING_MS, () => this.ping());
      this.receive(JSON.parse(message.data as string));
    };
    socket.onclose = () => this.lost();
    this.expect(ANSWER_MS, () => this.lost());
  }

  private lost(): void {
    this.leave();
    this.expect(this.rounds.next(), () => this.connect());
  }

  private ping(): void {
    this.send({ t: "ping" });
    this.expect(ANSWER_MS, () => this.lost());
  }

  private expect(ms: number, otherwise: () => void): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(otherwise, ms);
  }

  private send(message: unknown): void {
    this.socket?.send(JSON.stringify(message));
  }

  private receive(message: any): void {
    switch (message.t) {
      case "welcome":
        this.open = true;
        this.rounds.good();
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
      case "goaway": this.lost(); break;
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
