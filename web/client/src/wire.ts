// What a member and an edge say to each other, in JSON (subprotocol `longspan.v1+json`). Pure.

export const PROTOCOL = "longspan.v1+json";

/** The edge reads no message above this (bytes of JSON). */
export const MAX_MESSAGE = 100 << 10;
/** How deep a body may be nested. */
export const MAX_DEPTH = 100;

/** `log`: ordered, for everyone. `state`: ordered, and the newest of each key stays. `ephemeral`: neither. */
export type Class = "log" | "state" | "ephemeral";

/** What is published. */
export interface Message {
  topic: string;
  class: Class;
  /** `state` needs one; a label of an `ephemeral` message. */
  key?: string;
  /** `state`: only if the key is at this revision; 0: only if there is no such key. */
  if?: number;
  /** Anything JSON can say. `null` deletes a key. */
  body?: unknown;
}

/** A message of the room. */
export interface Ev {
  /** Its place in the room's one order; `ephemeral` messages have none. */
  seq?: number;
  from: string;
  /** The room's clock, ms since the Unix epoch; never decreases. */
  at: number;
  class: Class;
  topic: string;
  key?: string;
  body: unknown;
}

/** The newest message of a key. */
export interface Entry {
  /** For `if`: the place of the message that wrote it. */
  revision: number;
  from: string;
  at: number;
  topic: string;
  body: unknown;
}

/** What the edge allows a member. */
export interface Limits {
  /** Bytes of a body, measured as CBOR. */
  body: number;
  /** Messages a second in the long run. */
  rate: number;
  /** Messages at once. */
  burst: number;
  /** Messages that are not answered yet. */
  unanswered: number;
}

export interface Resume { seq: number; log: string }

export type ToEdge =
  | { t: "hello"; session: string; resume?: Resume }
  | ({ t: "pub"; n: number } & Message)
  | { t: "ping" };

type State = Record<string, Entry>;
export type FromEdge =
  | { t: "welcome"; member: string; log: string; seq: number; n: number; state?: State; more: boolean; limits: Limits }
  | { t: "state"; log: string; seq: number; state: State; more: boolean }
  | { t: "ack"; n: number; seq?: number }
  /** `skipped`: so many places among them, and before the first, are left out. */
  | { t: "evs"; evs: Ev[]; skipped: number }
  | { t: "gap"; from: number; to: number; log: string }
  | { t: "err"; n?: number; error: string; message: string; limit?: number }
  | { t: "goaway"; deadline_ms: number; alternatives: string[] }
  | { t: "pong" }
  /** Of a newer edge: not for us. */
  | { t: "unknown" };

/** Reads what an edge said; one event is read as a batch of one. Null: it is not a message. */
export function parse(text: string): FromEdge | null {
  let said: any;
  try {
    said = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof said !== "object" || said === null) return null;
  switch (said.t) {
    case "welcome":
      if (!isText(said.member, said.log) || !isPlace(said.seq, said.n) || !isLimits(said.limits)) return null;
      return said.state === undefined || isState(said.state) ? { ...said, more: said.more === true } : null;
    case "state": return isText(said.log) && isPlace(said.seq) && isState(said.state) ? { ...said, more: said.more === true } : null;
    case "ack": return isPlace(said.n) && (said.seq === undefined || isPlace(said.seq)) ? said : null;
    case "ev": return isEv(said) ? { t: "evs", evs: [ev(said)], skipped: 0 } : null;
    case "evs": {
      const { evs, skipped = 0 } = said;
      return Array.isArray(evs) && evs.every(isEv) && isPlace(skipped) ? { t: "evs", evs: evs.map(ev), skipped } : null;
    }
    case "gap": return isPlace(said.from, said.to) && isText(said.log) ? said : null;
    case "err": return isText(said.error, said.message) && (said.n === undefined || isPlace(said.n)) ? said : null;
    case "goaway": {
      const alternatives = Array.isArray(said.alternatives) ? said.alternatives.filter((it: unknown) => isText(it)) : [];
      return { t: "goaway", deadline_ms: Number(said.deadline_ms) || 0, alternatives };
    }
    case "pong": return said;
    default: return isText(said.t) ? { t: "unknown" } : null;
  }
}

const isText = (...values: unknown[]) => values.every((value) => typeof value === "string");
const isPlace = (...values: unknown[]) => values.every((value) => Number.isSafeInteger(value) && (value as number) >= 0);
const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
const isLimits = (it: unknown) => isObject(it) && isPlace(it.body, it.rate, it.burst, it.unanswered);
const isEv = (it: unknown) => isObject(it) && isText(it.from, it.topic, it.class) && (it.class === "ephemeral" || isPlace(it.seq));
const isState = (it: unknown) => isObject(it) && Object.values(it).every((entry) => isObject(entry) && isPlace(entry.revision));
const ev = ({ seq, from, at, class: kind, topic, key, body }: Ev): Ev => (
  { ...(kind !== "ephemeral" && { seq }), from, at, class: kind, topic, ...(key != null && { key }), body });

/** Whether a body is nested deeper than an edge reads. */
export function isTooDeep(body: unknown, depth = MAX_DEPTH): boolean {
  if (typeof body !== "object" || body === null) return false;
  return depth <= 1 || Object.values(body).some((inner) => isTooDeep(inner, depth - 1));
}
