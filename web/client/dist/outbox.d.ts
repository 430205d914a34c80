import { LongspanError } from "./error.js";
import { type FromEdge, type Limits, type Message } from "./wire.js";
/** Messages that wait to be sent or answered; one more is refused, `queue_full`. */
export declare const MAX_QUEUED = 1000;
/** Their bytes as JSON; more is refused, `queue_full`. */
export declare const MAX_QUEUED_BYTES: number;
/** What became of a message. */
export type Settled = {
    id: number;
} & ({
    seq: number | undefined;
} | {
    error: LongspanError;
});
/** What an error means for the connection. */
export type Verdict = "goes on"
/** It is not about a message that waits. */
 | "not ours"
/** The room waits for a number: only a new connection tells which. */
 | "reconnect"
/** The session is over. */
 | "renew";
export declare class Outbox {
    private items;
    private bytes;
    /** The highest number used. */
    private n;
    /** The highest number that is known to be in the room's order. */
    private committed;
    /** Numbers that will never come and that the room may wait for, rising. */
    private holes;
    /** Those that were filled on this connection, and are not answered. */
    private readonly fillers;
    private limits;
    private tokens;
    private filled;
    private retryAt;
    private retries;
    get length(): number;
    /** No number was used yet. */
    get isFresh(): boolean;
    /** Takes a message, or says why not. */
    push(id: number, message: Message): LongspanError | null;
    /** A connection was welcomed; of its session the room holds numbers up to `held`. False: it is lost count of. */
    begin(now: number, held: number, limits: Limits): boolean;
    /** The connection is gone. */
    end(): void;
    /** What to send now; null: nothing. */
    next(now: number): string | null;
    /** When `next` may have something though nothing was answered. */
    due(): number;
    /** Something else was sent that the edge counts. */
    spent(): void;
    ack(n: number, seq: number | undefined): Settled | null;
    refused(now: number, n: number, said: Extract<FromEdge, {
        t: "err";
    }>): {
        settled: Settled | null;
        verdict: Verdict;
    };
    /** The session is over, numbers begin anew. What was sent may have been taken or not. */
    renew(code: string, why: string): Settled[];
    /** Gives everything up. */
    close(error: (isSent: boolean) => LongspanError): Settled[];
    private settle;
    private underWay;
    /** Takes a token of the bucket, if there is one. */
    private pay;
}
