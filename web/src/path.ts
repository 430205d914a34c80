// The path of a programme as it changes: what it was, and what changed, in words. Pure.

export interface Hop { node: string; region: string }

/** What left the path stays drawn for so long, in ms. */
export const FADE_MS = 8_000;

export interface Change {
  /** When, Unix ms. */
  at: number;
  before: Hop[];
  after: Hop[];
  /** In words: what was left, what is taken now. */
  text: string;
}

/** The regions of a path in order, without the repeats of an edge and its relay. */
export function regionsOf(path: Hop[]): string[] {
  return path.map((hop) => hop.region).filter((region, i, all) => region !== all[i - 1]);
}

/** A path's links between regions, as `FROM>TO`. */
export function hopsOf(path: Hop[]): string[] {
  const regions = regionsOf(path);
  return regions.slice(1).map((region, i) => `${regions[i]}>${region}`);
}

/** A link, as `FROM>TO`, that is taken no more since then. */
export interface Left { hop: string; since: number }

/** Remembers one programme's path. */
export class History {
  private path: Hop[] = [];
  /** When each link was left, by `FROM>TO`. */
  private left = new Map<string, number>();

  /** The path is this now; null: nothing changed, or there was none before. */
  now(at: number, path: Hop[]): Change | null {
    const before = this.path;
    const key = (hops: Hop[]) => hops.map(({ node }) => node).join(">");
    if (path.length === 0 || key(before) === key(path)) return null;
    this.path = path;
    if (before.length === 0) return null;
    for (const hop of hopsOf(before)) this.left.set(hop, at);
    for (const hop of hopsOf(path)) this.left.delete(hop);
    return { at, before, after: path, text: describe(before, path) };
  }

  /** The links that were left a short while ago, and when. */
  fading(at: number): Left[] {
    for (const [hop, since] of this.left) if (at - since >= FADE_MS) this.left.delete(hop);
    return [...this.left].map(([hop, since]) => ({ hop, since }));
  }
}

/** "cn-shanghai → hk left, now over jp-tokyo" */
function describe(before: Hop[], after: Hop[]): string {
  const [was, is] = [hopsOf(before), hopsOf(after)];
  const left = was.filter((hop) => !is.includes(hop));
  const taken = regionsOf(after).filter((region) => !regionsOf(before).includes(region));
  const arrow = (hop: string) => hop.replace(">", " → ");
  const now = taken.length > 0 ? `over ${taken.join(", ")}` : regionsOf(after).join(" → ");
  if (left.length > 0) return `${runs(left).map(arrow).join(", ")} left, now ${now}`;
  if (was.join() !== is.join()) return `now ${now}`;
  const nodes = after.map(({ node }) => node).filter((node) => !before.some((hop) => hop.node === node));
  return nodes.length > 0 ? `now over ${nodes.join(", ")}` : `now ${now}`;
}

/** Links that follow on each other as one: a>b, b>c is a → b → c. */
function runs(hops: string[]): string[] {
  const joined: string[] = [];
  for (const hop of hops) {
    const [from, to] = hop.split(">");
    const last = joined.at(-1);
    if (last?.endsWith(` → ${from}`)) joined[joined.length - 1] = `${last} → ${to}`;
    else joined.push(`${from} → ${to}`);
  }
  return joined;
}

/** A controller's word that a primary path moved. */
export interface Switch { at_ms: number; from: string; to: string; before: string[]; after: string[]; reason: string }

/** How far apart the controller's word and the media's move may be, in ms. */
const NEAR_MS = 10_000;

/** The newest reason a controller gave for what a change did: a switch whose old path had a link
 *  that the change left, or whose new path has one that it took. */
export function reasonOf(change: Change, switches: Switch[]): string | null {
  const pairs = (nodes: string[]) => nodes.slice(1).map((node, i) => `${nodes[i]}>${node}`);
  const [was, is] = [change.before, change.after].map((path) => pairs(path.map(({ node }) => node))) as [string[], string[]];
  const left = was.filter((pair) => !is.includes(pair));
  const taken = is.filter((pair) => !was.includes(pair));
  const fits = (it: Switch) => {
    const ways = [[it.from, ...it.before], [it.to, ...it.before.slice(0, -1).reverse(), it.from]].flatMap(pairs);
    const now = [[it.from, ...it.after], [it.to, ...it.after.slice(0, -1).reverse(), it.from]].flatMap(pairs);
    return Math.abs(it.at_ms - change.at) < NEAR_MS && (left.some((pair) => ways.includes(pair)) || taken.some((pair) => now.includes(pair)));
  };
  return switches.filter(fits).at(-1)?.reason ?? null;
}
