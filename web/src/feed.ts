// One connection to an edge's live fragmented MP4: cut into boxes, with the origin's clock of each
// fragment. What it brought before anybody took it is kept.

import { BoxReader, decodeTime, producerTime, timescales } from "./mp4";

/** Fragments kept before the feed is taken, in bytes; when more come the feed is given up. */
const MAX_KEPT = 32 << 20;
/** An answer must begin within this, in ms; an edge behind a blackhole gives none. */
const ANSWER_MS = 3_000;

/** The origin's clock at one media time (both in ms and s of their own). */
export interface Stamp { wallMs: number; mediaS: number }

/** What follows an init segment. */
export interface Programme { init: Uint8Array[]; scales: Map<number, number> }

export interface FeedEvents {
  /** Media came; `originMs`: the origin's clock of it, null where that is not known. */
  media(originMs: number | null): void;
  ended(why: string): void;
}

/** Takes what a feed brings. */
export interface Sink {
  begin(programme: Programme): void;
  stamp(stamp: Stamp): void;
  append(data: Uint8Array): void;
}

type Item = { begin: Programme } | { stamp: Stamp } | { append: Uint8Array };

export class Feed {
  private readonly stop = new AbortController();
  private kept: Item[] = [];
  private keptBytes = 0;
  private sink: Sink | null = null;
  private scales = new Map<number, number>();
  private last: Stamp | null = null;
  private closed = false;

  constructor(url: string, private readonly events: FeedEvents) {
    const answer = setTimeout(() => this.stop.abort(new Error(`no answer within ${ANSWER_MS} ms`)), ANSWER_MS);
    this.read(url, () => clearTimeout(answer))
      .then(() => "the edge ended it", (error: Error) => error.message)
      .then((why) => {
        clearTimeout(answer);
        if (!this.closed) events.ended(why);
      });
  }

  /** Gives what came so far, and what comes from now on. */
  take(sink: Sink): void {
    this.sink = sink;
    for (const item of this.kept.splice(0)) this.give(sink, item);
  }

  close(): void {
    this.closed = true;
    this.stop.abort();
  }

  private async read(url: string, answered: () => void): Promise<void> {
    const answer = await fetch(url, { signal: this.stop.signal });
    answered();
    if (!answer.ok || !answer.body) {
      const body = await answer.json().catch(() => ({})) as { message?: string };
      throw new Error(body.message ?? `HTTP ${answer.status}`);
    }
    const boxes = new BoxReader();
    const reader = answer.body.getReader();
    let ftyp: Uint8Array | null = null;
    for (;;) {
      const { done, value } = await reader.read();
      if (done || this.closed) return;
      for (const { type, data } of boxes.push(value)) {
        if (type === "ftyp") ftyp = data;
        else if (type === "moov") {
          this.scales = timescales(data);
          this.last = null;
          this.put({ begin: { init: ftyp ? [ftyp, data] : [data], scales: this.scales } });
        } else if (type === "prft") {
          const { track, wallMs, media } = producerTime(data);
          const scale = this.scales.get(track);
          if (scale) this.put({ stamp: { wallMs, mediaS: media / scale } });
        } else this.put({ append: data });
        if (type === "moof") this.events.media(this.origin(data));
      }
    }
  }

  private put(item: Item): void {
    if ("stamp" in item) this.last = item.stamp;
    if (this.sink) return this.give(this.sink, item);
    if ("append" in item) this.keptBytes += item.append.length;
    if (this.keptBytes > MAX_KEPT) throw new Error(`more than ${MAX_KEPT >> 20} MB came before it was needed`);
    this.kept.push(item);
  }

  private give(sink: Sink, item: Item): void {
    if ("begin" in item) sink.begin(item.begin);
    else if ("stamp" in item) sink.stamp(item.stamp);
    else sink.append(item.append);
  }

  private origin(moof: Uint8Array): number | null {
    const time = decodeTime(moof);
    const scale = time && this.scales.get(time.track);
    return this.last && scale ? this.last.wallMs + (time.media / scale - this.last.mediaS) * 1_000 : null;
  }
}
