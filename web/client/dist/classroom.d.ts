import type { Entry, Message } from "./wire.js";
type State = ReadonlyMap<string, Entry>;
type Said<T> = Message & {
    body: T | null;
};
/** The page that is shown. `board/page` */
export interface Page {
    page: number;
    pages?: number;
    deck?: string;
    title?: string;
}
/** A finished stroke; x and y of its points in turn, in 0..10,000 of the board's width. `board/stroke/PAGE/ID` */
export interface Stroke {
    points: number[];
    color: string;
    width: number;
}
/** A raised hand; since when is the entry's `at`. `hand/MEMBER` */
export interface Hand {
    name?: string;
    note?: string;
}
/** On stage, and with what. `stage/MEMBER` */
export interface Stage {
    audio: boolean;
    video: boolean;
    name?: string;
}
/** Everybody is to be silent but these and who is on stage with audio. `room/mute` */
export interface Mute {
    all: boolean;
    except?: string[];
}
/** Whether students may write. `room/chat` */
export interface ChatRule {
    open: boolean;
}
/** A line of chat. */
export interface Chat {
    text: string;
    name?: string;
}
/** A question to all. `poll/open` */
export interface Poll {
    id: string;
    question: string;
    options: string[];
    open: boolean;
}
/** A member's answer; the next poll's takes its place. `vote/MEMBER` */
export interface Vote {
    poll: string;
    option: number;
}
/** The rooms a class is divided into. `breakout/open` */
export interface Breakout {
    rooms: {
        room: string;
        title?: string;
    }[];
    until?: number;
}
/** Where a member belongs. `breakout/to/MEMBER` */
export interface Seat {
    room: string;
}
/** A stroke's points at most: its body stays below 16 KB. */
export declare const MAX_POINTS = 1000;
/** A poll's options at most. */
export declare const MAX_OPTIONS = 10;
export declare const say: (text: string, name?: string) => Said<Chat>;
export declare const chatRule: (open: boolean) => Said<ChatRule>;
export declare const mute: (body: Mute | null) => Said<Mute>;
export declare const turnTo: (body: Page) => Said<Page>;
export declare const stroke: (page: number, id: string, body: Stroke | null) => Said<Stroke>;
/** A stroke while it is drawn: everybody sees it grow, and nobody who comes later. */
export declare const drawing: (member: string, body: Stroke & {
    page: number;
}) => Said<Stroke & {
    page: number;
}>;
export declare const raiseHand: (member: string, body?: Hand) => Said<Hand>;
/** The member's own, or a teacher's: the hand was seen. */
export declare const lowerHand: (member: string) => Said<Hand>;
/** Null: off the stage. */
export declare const stage: (member: string, body: Stage | null) => Said<Stage>;
export declare const ask: (body: Poll | null) => Said<Poll>;
export declare const vote: (member: string, body: Vote) => Said<Vote>;
export declare const divide: (body: Breakout | null) => Said<Breakout>;
export declare const seat: (member: string, body: Seat | null) => Said<Seat>;
export declare const pageOf: (from: State) => Page | null;
export declare const muteOf: (from: State) => Mute | null;
export declare const isChatOpen: (from: State) => boolean;
export declare const isMuted: (from: State, member: string) => boolean;
export declare const isStroke: (body: any) => body is Stroke;
/** The strokes of a page, the oldest first. */
export declare function strokesOf(from: State, page: number): {
    id: string;
    stroke: Stroke;
}[];
/** Raised hands, the one that waits longest first. */
export declare function handsOf(from: State): {
    member: string;
    since: number;
    hand: Hand;
}[];
export declare function stageOf(from: State): {
    member: string;
    stage: Stage;
}[];
export declare const pollOf: (from: State) => Poll | null;
/** Votes for each option of a poll. */
export declare function countOf(from: State, { id, options }: Poll): number[];
export declare const breakoutOf: (from: State) => Breakout | null;
export declare const seatOf: (from: State, member: string) => Seat | null;
export declare function seatsOf(from: State): {
    member: string;
    seat: Seat;
}[];
export {};
