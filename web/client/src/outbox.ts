// What was published and is not answered yet. Pure.
//
// Contract: a message gets its number `n` when it is first sent and keeps it; whatever is not
// answered is sent again on the next connection, in order, and the room answers what it took
// already with its first place. A number that will never come (its message was refused by an edge
// that is gone) is filled with a message that every room refuses, or the room would wait for it.

import { LongspanError } from "./error.js";
import { isTooDeep, MAX_DEPTH, MAX_MESSAGE, type FromEdge, type Limits, type Message } from "./wire.js";

/** Messages that wait to be sent or answered; one more is refused, `queue_full`. */
export const MAX_QUEUED = 1_000;
/** Their bytes as JSON; more is refused, `queue_full`. */
export const MAX_QUEUED_BYTES = 4 << 20;
/** The pause before what the room could not take now is sent again; doubled up to the second. */
const RETRY_MS = 500;
const MAX_RETRY_MS = 5_000;
/** Numbers of one session that would have to be filled at most; with more of them a new one begins. */
const MAX_HOLES = 1_000;
/** A compare-and-set that no key can pass (2^53 - 1), for numbers that will never come. */
const NEVER = Number.MAX_SAFE_INTEGER;

/** Refusals that say: later. All others are final. */
const LATER = new Set(["unavailable", "busy", "rate_limited", "room_rate_limited", "too_many_unanswered"]);

/** What became of a message. */
export type Settled = { id: number } & ({ seq: number | undefined } | { error: LongspanError });

/** What an error means for the connection. */
export type Verdict =
  | "goes on"
  /** It is not about a message that waits. */
  | "not ours"
  /** The room waits for a number: only a new connection tells which. */
  | "reconnect"
  /** The session is over. */
  | "renew";

interface Item {
  id: number;
  message: Message;
  bytes: number;
  /** 0: not sent yet. */
  n: number;
  /** Sent on this connection and not answered on it. */
  isUnderWay: boolean;
  /** An edge said: later. */
  later: LongspanError | null;
  /** The room waited for another number: the next time is the last. */
  jumped: boolean;
}

export class Outbox {
  private items: Item[] = [];
  private bytes = 0;
  /** The highest number used. */
  private n = 0;
  /** The highest number that is known to be in the room's order. */
  private committed = 0;
  /** Numbers that will never come and that the room may wait for, rising. */
  private holes: number[] = [];
  /** Those that were filled on this connection, and are not answered. */
  private readonly fillers = new Set<number>();
  private limits: Limits | null = null;
  private tokens = 0;
  private filled = 0;
  private retryAt = 0;
  private retries = 0;

  get length(): number { return this.items.length; }
  /** No number was used yet. */
  get isFresh(): boolean { return this.n === 0; }

  /** Takes a message, or says why not. */
  push(id: number, message: Message): LongspanError | null {
    const { topic, class: kind, key, if: revision, body } = message;
    let json: string;
    try {
      json = JSON.stringify({ topic, class: kind, key, if: revision, body: body ?? null });
    } catch (error) {
      return new LongspanError("invalid_body", `body cannot be written as JSON: ${(error as Error).message}`);
    }
    // As it is now: the caller may change it before it is sent.
    const copy = JSON.parse(json) as Message;
    if (isTooDeep(copy.body)) return new LongspanError("invalid_body", `body is nested more than ${MAX_DEPTH} deep`, MAX_DEPTH);
    // The frame around it: t and n.
    const bytes = new TextEncoder().encode(json).length + 40;
    // Never sent: an edge would close, and so would the next one.
    if (bytes > MAX_MESSAGE) return new LongspanError("too_long", `the message has ${bytes} bytes; the limit is ${MAX_MESSAGE}`, MAX_MESSAGE);
    if (this.items.length >= MAX_QUEUED) return new LongspanError("queue_full", `${MAX_QUEUED} messages wait for the room, the limit`, MAX_QUEUED);
    if (this.bytes + bytes > MAX_QUEUED_BYTES) {
      return new LongspanError("queue_full", `messages of more than ${MAX_QUEUED_BYTES} bytes would wait for the room, the limit`, MAX_QUEUED_BYTES);
    }
    this.bytes += bytes;
    this.items.push({ id, message: copy, bytes, n: 0, isUnderWay: false, later: null, jumped: false });
    return null;
  }

  /** A connection was welcomed; of its session the room holds numbers up to `held`. False: it is lost count of. */
  begin(now: number, held: number, limits: Limits): boolean {
    const known = Math.max(held, this.committed);
    this.n = Math.max(this.n, known);
    if (this.n - known > MAX_HOLES + this.items.length) return false;
    const used = new Set(this.items.map(({ n }) => n));
    this.holes = [];
    for (let n = known + 1; n <= this.n; n++) if (!used.has(n)) this.holes.push(n);
    this.fillers.clear();
    for (const item of this.items) item.isUnderWay = false;
    [this.limits, this.tokens, this.filled, this.retryAt, this.retries] = [limits, burst(limits), now, 0, 0];
    return true;
  }

  /** The connection is gone. */
  end(): void { this.limits = null; }

  /** What to send now; null: nothing. */
  next(now: number): string | null {
    if (this.limits === null || now < this.retryAt) return null;
    const item = this.items.find(({ isUnderWay }) => !isUnderWay);
    if (!item || this.underWay() >= window(this.limits) || !this.pay(now)) return null;
    const n = item.n || this.n + 1;
    const hole = this.holes[0] ?? Infinity;
    if (hole < n) {
      this.fillers.add(hole);
      this.holes.shift();
      return JSON.stringify({ t: "pub", n: hole, topic: item.message.topic, class: "state", key: "-", if: NEVER, body: null });
    }
    item.n = n;
    item.isUnderWay = true;
    this.n = Math.max(this.n, n);
    return JSON.stringify({ t: "pub", n, ...item.message });
  }

  /** When `next` may have something though nothing was answered. */
  due(): number {
    if (this.limits === null || !this.items.some(({ isUnderWay }) => !isUnderWay) || this.underWay() >= window(this.limits)) return Infinity;
    const wait = Math.ceil(Math.max(0, 1 - this.tokens) * 1_000 / pace(this.limits)) + 1;
    return Math.max(this.retryAt, this.filled + wait);
  }

  /** Something else was sent that the edge counts. */
  spent(): void { this.tokens -= 1; }

  ack(n: number, seq: number | undefined): Settled | null {
    this.fillers.delete(n);
    if (seq !== undefined) this.committed = Math.max(this.committed, n);
    this.retries = 0;
    const item = this.items.find((item) => item.n === n);
    return item ? this.settle(item, { seq }) : null;
  }

  refused(now: number, n: number, said: Extract<FromEdge, { t: "err" }>): { settled: Settled | null; verdict: Verdict } {
    if (said.error === "session_expired") return { settled: null, verdict: "renew" };
    const item = this.items.find((item) => item.n === n);
    if (!item) {
      if (!this.fillers.delete(n)) return { settled: null, verdict: "not ours" };
      if (LATER.has(said.error)) this.holes = [...this.holes, n].sort((a, b) => a - b);
      return { settled: null, verdict: "goes on" };
    }
    const error = new LongspanError(said.error, said.message, said.limit, said.error === "n_reused");
    item.isUnderWay = false;
    if (LATER.has(said.error)) {
      item.later = error;
      if (now >= this.retryAt) {
        this.retryAt = now + Math.min(RETRY_MS * 2 ** this.retries, MAX_RETRY_MS);
        this.retries += 1;
      }
      return { settled: null, verdict: "goes on" };
    }
    if (said.error === "n_jumped") {
      const verdict = item.jumped ? "renew" : "reconnect";
      item.jumped = true;
      return { settled: null, verdict };
    }
    // An edge that could not take it passed it over for later ones that were under way. It has no
    // place: the room remembers those of the last 256 numbers, more than are ever under way.
    const why = "an edge could not take the message, and took later ones; publish it again";
    const final = said.error === "n_went_back" ? item.later ?? new LongspanError("passed_over", why) : error;
    return { settled: this.settle(item, { error: final }), verdict: "goes on" };
  }

  /** The session is over, numbers begin anew. What was sent may have been taken or not. */
  renew(code: string, why: string): Settled[] {
    const sent = this.items.filter(({ n }) => n > 0);
    this.n = this.committed = 0;
    this.end();
    const message = `${why}; whether the message was taken is not known`;
    return sent.map((item) => this.settle(item, { error: new LongspanError(code, message, undefined, true) }));
  }

  /** Gives everything up. */
  close(error: (isSent: boolean) => LongspanError): Settled[] {
    this.end();
    return [...this.items].map((item) => this.settle(item, { error: error(item.n > 0) }));
  }

  private settle(item: Item, how: { seq: number | undefined } | { error: LongspanError }): Settled {
    this.items.splice(this.items.indexOf(item), 1);
    this.bytes -= item.bytes;
    return { id: item.id, ...how };
  }

  private underWay(): number {
    return this.fillers.size + this.items.reduce((sum, { isUnderWay }) => sum + Number(isUnderWay), 0);
  }

  /** Takes a token of the bucket, if there is one. */
  private pay(now: number): boolean {
    if (this.limits === null) return false;
    const grown = this.tokens + Math.max(0, now - this.filled) * pace(this.limits) / 1_000;
    this.tokens = Math.min(grown, burst(this.limits));
    this.filled = now;
    if (this.tokens < 1) return false;
    this.tokens -= 1;
    return true;
  }
}

// Below what the edge allows: what a slow network delays arrives in one heap.
const pace = ({ rate }: Limits) => Math.max(rate * 0.9, 0.1);
const burst = ({ burst }: Limits) => Math.max(burst / 2, 1);
const window = ({ unanswered, burst }: Limits) => Math.max(1, Math.floor(Math.min(unanswered, burst) / 2));
