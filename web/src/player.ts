// Plays a programme from whichever of its edges delivers: `failover` decides, `feed` connects,
// `screen` shows.

import { Failover } from "./failover";
import { Feed } from "./feed";
import { Screen, type ScreenEvents } from "./screen";

/** An edge and where the programme is at it. */
export interface Place { id: string; url: string; health: string }

export interface PlayerEvents extends Omit<ScreenEvents, "shown"> {
  /** Why nothing is seen; null when playing. */
  notice(text: string | null): void;
  /** Another edge feeds now. */
  moved(edge: string, from: string | null, why: string): void;
}

/** An edge that went on delivering for so long after its first fragment is alive, whatever its
 *  origin's clock says. A replay of what it had takes less. */
const LIVE_MS = 500;
/** A probe that takes longer says that an edge is not healthy. */
const PROBE_MS = 1_000;

interface Connection { feed: Feed; first: number | null }

export class Player {
  private readonly core = new Failover();
  private readonly screen: Screen;
  private readonly connections = new Map<string, Connection>();
  private places = new Map<string, Place>();
  private programme = "";
  /** The origin's clock of the newest media of the edge in use, in ms. */
  private newest = -Infinity;
  private timer = 0;
  /** Whose media is shown. */
  private taken: Connection | null = null;

  constructor(videos: [HTMLVideoElement, HTMLVideoElement], private readonly events: PlayerEvents) {
    this.screen = new Screen(videos, { delay: (...ages) => events.delay(...ages), shown: () => events.notice(null) });
  }

  get edge(): string | null { return this.core.edge; }
  get muted(): boolean { return this.screen.muted; }
  set muted(muted: boolean) { this.screen.muted = muted; }

  /** Plays `programme` from the first of the places, or the next best; `codecs` as RFC 6381. */
  play(programme: string, codecs: string, places: Place[]): void {
    const mime = `video/mp4; codecs="${codecs}"`;
    if (programme !== this.programme || mime !== this.screen.mime) {
      if (programme !== this.programme) this.stop();
      this.programme = programme;
      this.screen.mime = mime;
    }
    if (!MediaSource.isTypeSupported(mime)) {
      this.stop();
      return this.events.notice(`This browser cannot play ${codecs}.`);
    }
    this.places = new Map(places.map((place) => [place.id, place]));
    const [wanted, ...others] = places.map(({ id }) => id);
    if (wanted) this.core.offer(performance.now(), wanted, others);
    this.step();
  }

  /** Plays nothing. */
  stop(): void {
    this.programme = "";
    this.core.reset();
    for (const edge of [...this.connections.keys()]) this.drop(edge);
    this.newest = -Infinity;
    this.screen.clear();
    clearTimeout(this.timer);
  }

  private step(): void {
    const now = performance.now();
    for (let action = this.core.poll(now); action !== null; action = this.core.poll(now)) {
      if (action.do === "connect") this.connect(action.edge);
      else if (action.do === "drop") this.drop(action.edge);
      else if (action.do === "probe") void this.probe(action.edge);
      else this.use(action.edge, action.from, action.why);
    }
    clearTimeout(this.timer);
    const due = this.core.due();
    if (due < Infinity) this.timer = window.setTimeout(() => this.step(), Math.max(0, due - performance.now()));
  }

  private connect(edge: string): void {
    const place = this.places.get(edge);
    if (!place) return;
    this.drop(edge);
    const connection: Connection = {
      first: null,
      feed: new Feed(place.url, {
        media: (originMs) => this.media(edge, connection, originMs),
        ended: (why) => {
          if (this.connections.get(edge) !== connection) return;
          this.connections.delete(edge);
          this.core.lost(performance.now(), edge, "connection lost");
          if (this.core.edge === null) this.events.notice(`Waiting for the programme (${why}).`);
          this.step();
        },
      }),
    };
    this.connections.set(edge, connection);
  }

  private media(edge: string, connection: Connection, originMs: number | null): void {
    if (this.connections.get(edge) !== connection) return;
    const now = performance.now();
    connection.first ??= now;
    const newer = originMs === null || originMs > this.newest || now - connection.first > LIVE_MS;
    this.core.fed(now, edge, newer);
    if (newer && connection !== this.taken) this.step();
    if (edge === this.core.edge && originMs !== null) this.newest = Math.max(this.newest, originMs);
  }

  private use(edge: string, from: string | null, why: string): void {
    for (const other of [...this.connections.keys()]) if (other !== edge) this.drop(other);
    const connection = this.connections.get(edge);
    if (!connection) return;
    this.taken = connection;
    connection.feed.take(this.screen);
    this.events.moved(edge, from, why);
  }

  private drop(edge: string): void {
    this.connections.get(edge)?.feed.close();
    this.connections.delete(edge);
  }

  private async probe(edge: string): Promise<void> {
    const place = this.places.get(edge);
    if (!place) return;
    const answer = await fetch(place.health, { signal: AbortSignal.timeout(PROBE_MS) }).catch(() => null);
    this.core.healthy(performance.now(), edge, answer?.ok ?? false);
    this.step();
  }
}
