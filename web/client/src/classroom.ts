// The reference schema of a classroom (docs/classroom.md): what is said in a room, under which
// topic and key, and how it is read back. Pure; nothing here is known to the backbone.

import type { Entry, Message } from "./wire.js";

type State = ReadonlyMap<string, Entry>;
type Said<T> = Message & { body: T | null };

/** The page that is shown. `board/page` */
export interface Page { page: number; pages?: number; deck?: string; title?: string }
/** A finished stroke; x and y of its points in turn, in 0..10,000 of the board's width. `board/stroke/PAGE/ID` */
export interface Stroke { points: number[]; color: string; width: number }
/** A raised hand; since when is the entry's `at`. `hand/MEMBER` */
export interface Hand { name?: string; note?: string }
/** On stage, and with what. `stage/MEMBER` */
export interface Stage { audio: boolean; video: boolean; name?: string }
/** Everybody is to be silent but these and who is on stage with audio. `room/mute` */
export interface Mute { all: boolean; except?: string[] }
/** Whether students may write. `room/chat` */
export interface ChatRule { open: boolean }
/** A line of chat. */
export interface Chat { text: string; name?: string }
/** A question to all. `poll/open` */
export interface Poll { id: string; question: string; options: string[]; open: boolean }
/** A member's answer; the next poll's takes its place. `vote/MEMBER` */
export interface Vote { poll: string; option: number }
/** The rooms a class is divided into. `breakout/open` */
export interface Breakout { rooms: { room: string; title?: string }[]; until?: number }
/** Where a member belongs. `breakout/to/MEMBER` */
export interface Seat { room: string }

/** A stroke's points at most: its body stays below 16 KB. */
export const MAX_POINTS = 1_000;
/** A poll's options at most. */
export const MAX_OPTIONS = 10;

const state = <T>(topic: string, key: string, body: T | null): Said<T> => ({ topic, class: "state", key, body });

export const say = (text: string, name?: string): Said<Chat> => ({ topic: "chat", class: "log", body: { text, ...(name && { name }) } });
export const chatRule = (open: boolean) => state<ChatRule>("room", "room/chat", { open });
export const mute = (body: Mute | null) => state("room", "room/mute", body);

export const turnTo = (body: Page) => state("board", "board/page", body);
export const stroke = (page: number, id: string, body: Stroke | null) => state("board", `board/stroke/${page}/${id}`, body);
/** A stroke while it is drawn: everybody sees it grow, and nobody who comes later. */
export const drawing = (member: string, body: Stroke & { page: number }): Said<Stroke & { page: number }> => (
  { topic: "board", class: "ephemeral", key: `board/pen/${member}`, body });

export const raiseHand = (member: string, body: Hand = {}) => state("hand", `hand/${member}`, body);
/** The member's own, or a teacher's: the hand was seen. */
export const lowerHand = (member: string) => state<Hand>("hand", `hand/${member}`, null);
/** Null: off the stage. */
export const stage = (member: string, body: Stage | null) => state("stage", `stage/${member}`, body);

export const ask = (body: Poll | null) => state("poll", "poll/open", body);
export const vote = (member: string, body: Vote) => state("vote", `vote/${member}`, body);

export const divide = (body: Breakout | null) => state("breakout", "breakout/open", body);
export const seat = (member: string, body: Seat | null) => state("breakout", `breakout/to/${member}`, body);

/** What a key holds, if it has the shape; members write what they like, so it is looked at. */
const read = <T>(from: State, key: string, fits: (body: any) => boolean): T | null => {
  const body = from.get(key)?.body;
  return typeof body === "object" && body !== null && fits(body) ? body as T : null;
};
const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);

export const pageOf = (from: State) => read<Page>(from, "board/page", ({ page }) => Number.isSafeInteger(page) && page >= 1);
export const muteOf = (from: State) => read<Mute>(from, "room/mute", ({ all, except }) => typeof all === "boolean" && (except === undefined || Array.isArray(except)));
export const isChatOpen = (from: State) => read<ChatRule>(from, "room/chat", ({ open }) => typeof open === "boolean")?.open ?? true;
export const isMuted = (from: State, member: string) => {
  const rule = muteOf(from);
  if (rule === null || !rule.all || (rule.except ?? []).includes(member)) return false;
  return read<Stage>(from, `stage/${member}`, ({ audio }) => audio === true) === null;
};

export const isStroke = (body: any): body is Stroke => (
  typeof body === "object" && body !== null && typeof body.color === "string" && isNumber(body.width) && Array.isArray(body.points)
  && body.points.length % 2 === 0 && body.points.length <= 2 * MAX_POINTS && body.points.every(isNumber));

/** The strokes of a page, the oldest first. */
export function strokesOf(from: State, page: number): { id: string; stroke: Stroke }[] {
  return under(from, `board/stroke/${page}/`).filter(({ entry }) => isStroke(entry.body)).map(({ rest, entry }) => ({ id: rest, stroke: entry.body as Stroke }));
}

/** Raised hands, the one that waits longest first. */
export function handsOf(from: State): { member: string; since: number; hand: Hand }[] {
  return under(from, "hand/").map(({ rest, entry }) => ({ member: rest, since: entry.at, hand: (entry.body ?? {}) as Hand }));
}

export function stageOf(from: State): { member: string; stage: Stage }[] {
  return under(from, "stage/").map(({ rest, entry }) => ({ member: rest, stage: entry.body as Stage }));
}

export const pollOf = (from: State) => read<Poll>(from, "poll/open", ({ id, question, options }) => (
  typeof id === "string" && typeof question === "string" && Array.isArray(options)
  && options.length <= MAX_OPTIONS && options.every((option: unknown) => typeof option === "string")));

/** Votes for each option of a poll. */
export function countOf(from: State, { id, options }: Poll): number[] {
  const counts = options.map(() => 0);
  for (const { entry } of under(from, "vote/")) {
    const { poll, option } = (entry.body ?? {}) as Partial<Vote>;
    if (poll === id && option !== undefined && counts[option] !== undefined) counts[option] += 1;
  }
  return counts;
}

const isRoom = (it: any) => typeof it === "object" && it !== null && typeof it.room === "string";
export const breakoutOf = (from: State) => read<Breakout>(from, "breakout/open", ({ rooms }) => Array.isArray(rooms) && rooms.every(isRoom));
export const seatOf = (from: State, member: string) => read<Seat>(from, `breakout/to/${member}`, isRoom);
export function seatsOf(from: State): { member: string; seat: Seat }[] {
  return under(from, "breakout/to/").filter(({ entry }) => isRoom(entry.body)).map(({ rest, entry }) => ({ member: rest, seat: entry.body as Seat }));
}

/** Entries whose key begins so, the oldest first. */
function under(from: State, prefix: string): { rest: string; entry: Entry }[] {
  const found: { rest: string; entry: Entry }[] = [];
  for (const [key, entry] of from) if (key.startsWith(prefix)) found.push({ rest: key.slice(prefix.length), entry });
  return found.sort((a, b) => a.entry.revision - b.entry.revision);
}
