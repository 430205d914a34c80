// Plays an edge's live fragmented MP4 close to its live edge, and measures how old each picture
// is when it is shown.

import { BoxReader, producerTime, timescales } from "./mp4";

/** How far behind the newest picture playback starts and is kept, in seconds. */
const TARGET = 0.2;
/** Above this much lag it speeds up a little; above JUMP it skips ahead. */
const HURRY = 0.4;
const JUMP = 1.5;
/** Played media kept for the decoder's sake, in seconds. */
const KEEP_BEHIND = 10;
/** First and longest wait before connecting again, in ms. */
const RETRY_MIN = 300;
const RETRY_MAX = 5_000;

export interface PlayerEvents {
  /** Shown every picture, at most a few times a second: ages in ms. */
  delay(endToEndMs: number, bufferMs: number): void;
  /** Why nothing is seen; null when playing. */
  notice(text: string | null): void;
}

/** The origin's clock at one media time (both in ms and s of their own). */
interface Stamp { wallMs: number; mediaS: number }

/** One connection, one media timeline. A new init segment (a new generation) begins a new one. */
class Timeline {
  private readonly source = new MediaSource();
  private readonly url: string;
  private buffer: SourceBuffer | null = null;
  private queue: Uint8Array[] = [];
  private stamps: Stamp[] = [];
  private scales: Map<number, number>;

  constructor(private readonly video: HTMLVideoElement, init: Uint8Array[], mime: string, scales: Map<number, number>) {
    this.scales = scales;
    this.queue = init;
    this.url = URL.createObjectURL(this.source);
    this.source.addEventListener("sourceopen", () => {
      this.buffer = this.source.addSourceBuffer(mime);
      this.buffer.addEventListener("updateend", () => this.pump());
      this.pump();
    }, { once: true });
    video.src = this.url;
    video.play().catch(() => { /* muted playback needs no gesture; a refusal shows as a still picture */ });
  }

  append(data: Uint8Array): void {
    this.queue.push(data);
    this.pump();
  }

  stamp(prft: Uint8Array): void {
    const { track, wallMs, media } = producerTime(prft);
    const scale = this.scales.get(track);
    if (!scale) return;
    this.stamps.push({ wallMs, mediaS: media / scale });
    if (this.stamps.length > 32) this.stamps.shift();
  }

  /** The origin's wall clock for a media time, in ms. */
  originTime(mediaS: number): number | null {
    let best: Stamp | null = null;
    for (const stamp of this.stamps) if (stamp.mediaS <= mediaS + 0.001) best = stamp;
    best ??= this.stamps[0] ?? null;
    return best && best.wallMs + (mediaS - best.mediaS) * 1000;
  }

  close(): void {
    if (this.video.src === this.url) this.video.removeAttribute("src");
    URL.revokeObjectURL(this.url);
  }

  private pump(): void {
    const buffer = this.buffer;
    if (!buffer || buffer.updating || this.source.readyState !== "open") return;
    this.follow();
    const behind = this.video.currentTime - KEEP_BEHIND;
    if (buffer.buffered.length > 0 && buffer.buffered.start(0) < behind - KEEP_BEHIND) {
      buffer.remove(0, behind);
      return;
    }
    if (this.queue.length === 0) return;
    // One append for all that waits: fewer events at high frame rates.
    const length = this.queue.reduce((sum, part) => sum + part.length, 0);
    const joined = new Uint8Array(length);
    let at = 0;
    for (const part of this.queue) {
      joined.set(part, at);
      at += part.length;
    }
    this.queue = [];
    buffer.appendBuffer(joined);
  }

  private follow(): void {
    const { buffered } = this.video;
    if (buffered.length === 0) return;
    const last = buffered.length - 1;
    const end = buffered.end(last);
    const lag = end - this.video.currentTime;
    if (this.video.currentTime < buffered.start(last) || lag > JUMP) {
      this.video.currentTime = Math.max(buffered.start(last), end - TARGET);
    }
    this.video.playbackRate = lag > HURRY ? 1.08 : 1;
  }
}

export class Player {
  private stop = new AbortController();
  private timeline: Timeline | null = null;
  private lastReport = 0;

  constructor(private readonly video: HTMLVideoElement, private readonly events: PlayerEvents) {
    this.watchFrames();
  }

  /** Plays `url` from now on; `codecs` as RFC 6381. Null: plays nothing. */
  play(url: string | null, codecs: string): void {
    this.stop.abort();
    this.stop = new AbortController();
    this.timeline?.close();
    this.timeline = null;
    if (url) void this.run(url, codecs, this.stop.signal);
  }

  private async run(url: string, codecs: string, stop: AbortSignal): Promise<void> {
    const mime = `video/mp4; codecs="${codecs}"`;
    if (!MediaSource.isTypeSupported(mime)) {
      this.events.notice(`This browser cannot play ${codecs}.`);
      return;
    }
    for (let wait = RETRY_MIN; !stop.aborted; wait = Math.min(wait * 2, RETRY_MAX)) {
      try {
        if (await this.stream(url, mime, stop)) wait = RETRY_MIN;
      } catch (error) {
        if (stop.aborted) return;
        this.events.notice(`Waiting for the programme (${(error as Error).message}).`);
      }
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  /** One connection to its end. True: something was played. */
  private async stream(url: string, mime: string, stop: AbortSignal): Promise<boolean> {
    const answer = await fetch(url, { signal: stop });
    if (!answer.ok || !answer.body) {
      const body = await answer.json().catch(() => ({})) as { message?: string };
      throw new Error(body.message ?? `HTTP ${answer.status}`);
    }
    const boxes = new BoxReader();
    const reader = answer.body.getReader();
    let ftyp: Uint8Array | null = null;
    let played = false;
    for (;;) {
      const { done, value } = await reader.read();
      if (done || stop.aborted) return played;
      for (const { type, data } of boxes.push(value)) {
        if (type === "ftyp") ftyp = data;
        else if (type === "moov") {
          this.timeline?.close();
          this.timeline = new Timeline(this.video, ftyp ? [ftyp, data] : [data], mime, timescales(data));
          this.events.notice(null);
          played = true;
        } else if (type === "prft") this.timeline?.stamp(data);
        else this.timeline?.append(data);
      }
    }
  }

  private watchFrames(): void {
    const onFrame = (_: number, frame: VideoFrameCallbackMetadata) => {
      const now = performance.now();
      const origin = this.timeline?.originTime(frame.mediaTime) ?? null;
      if (origin !== null && now - this.lastReport > 250) {
        this.lastReport = now;
        const { buffered, currentTime } = this.video;
        const end = buffered.length > 0 ? buffered.end(buffered.length - 1) : currentTime;
        const shown = performance.timeOrigin + frame.expectedDisplayTime;
        this.events.delay(shown - origin, (end - currentTime) * 1000);
      }
      this.video.requestVideoFrameCallback(onFrame);
    };
    this.video.requestVideoFrameCallback(onFrame);
  }
}
