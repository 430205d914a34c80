// Two video elements, one above the other: another programme, or the same from another edge, is
// made ready on the hidden one, and the last picture stays until its first is there.

import type { Programme, Sink, Stamp } from "./feed";

/** How far behind the newest picture playback starts and is kept, in seconds. */
const TARGET = 0.2;
/** Above this much lag it speeds up a little; above JUMP it skips ahead. */
const HURRY = 0.4;
const JUMP = 1.5;
/** Played media kept for the decoder's sake, in seconds. */
const KEEP_BEHIND = 10;

/** One media timeline in one video element. */
class Timeline {
  private readonly source = new MediaSource();
  private readonly url = URL.createObjectURL(this.source);
  private buffer: SourceBuffer | null = null;
  private queue: Uint8Array[];
  private stamps: Stamp[] = [];

  constructor(private readonly video: HTMLVideoElement, { init }: Programme, mime: string) {
    this.queue = [...init];
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

  stamp(stamp: Stamp): void {
    this.stamps.push(stamp);
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

export interface ScreenEvents {
  /** A picture is shown, told at most a few times a second: ages in ms. */
  delay(endToEndMs: number, bufferMs: number): void;
  /** The first picture of what was begun last is shown. */
  shown(): void;
}

export class Screen implements Sink {
  private front: HTMLVideoElement;
  private back: HTMLVideoElement;
  private shown: Timeline | null = null;
  private coming: Timeline | null = null;
  private lastReport = 0;
  mime = "";

  constructor(videos: [HTMLVideoElement, HTMLVideoElement], private readonly events: ScreenEvents) {
    [this.front, this.back] = videos;
    for (const video of videos) this.watchFrames(video);
  }

  begin(programme: Programme): void {
    this.coming?.close();
    this.coming = new Timeline(this.back, programme, this.mime);
  }

  stamp(stamp: Stamp): void { (this.coming ?? this.shown)?.stamp(stamp); }

  append(data: Uint8Array): void { (this.coming ?? this.shown)?.append(data); }

  /** Nothing is seen any more. */
  clear(): void {
    this.coming?.close();
    this.shown?.close();
    this.coming = this.shown = null;
  }

  get muted(): boolean { return this.front.muted; }
  set muted(muted: boolean) { this.front.muted = muted; }

  private swap(): void {
    this.back.muted = this.front.muted;
    this.front.muted = true;
    [this.front, this.back] = [this.back, this.front];
    this.front.classList.add("front");
    this.back.classList.remove("front");
    this.shown?.close();
    this.shown = this.coming;
    this.coming = null;
    this.events.shown();
  }

  private watchFrames(video: HTMLVideoElement): void {
    const onFrame = (_: number, frame: VideoFrameCallbackMetadata) => {
      if (video === this.back && this.coming) this.swap();
      if (video === this.front) this.report(video, frame);
      video.requestVideoFrameCallback(onFrame);
    };
    video.requestVideoFrameCallback(onFrame);
  }

  private report(video: HTMLVideoElement, frame: VideoFrameCallbackMetadata): void {
    const now = performance.now();
    const origin = this.shown?.originTime(frame.mediaTime) ?? null;
    if (origin === null || now - this.lastReport <= 250) return;
    this.lastReport = now;
    const { buffered, currentTime } = video;
    const end = buffered.length > 0 ? buffered.end(buffered.length - 1) : currentTime;
    const at = performance.timeOrigin + frame.expectedDisplayTime;
    this.events.delay(at - origin, (end - currentTime) * 1000);
  }
}
