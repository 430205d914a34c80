// The map: land, regions, the path the lesson takes, the one it took before, and links that are
// down. One unit is one degree.

import { regionsOf, type Hop, type Left } from "./path";

declare const LAND_PATH: string;
const NS = "http://www.w3.org/2000/svg";

export interface Place { region: string; lat: number; lon: number; up: boolean }

export interface Shown {
  places: Place[];
  path: Hop[];
  /** Links between regions that were left a short while ago. */
  left: Left[];
  /** Those, as `FROM>TO`, that were taken a short while ago, and those that are down. */
  taken: string[];
  down: string[];
}

const x = (place: Place) => place.lon + 180;
const y = (place: Place) => 90 - place.lat;

export class WorldMap {
  private places = new Map<string, Place>();
  private drawn = "";

  constructor(private readonly svg: SVGSVGElement) {}

  show(shown: Shown): void {
    const key = JSON.stringify(shown);
    if (key === this.drawn) return;
    this.drawn = key;
    this.places = new Map(shown.places.map((place) => [place.region, place]));
    this.draw(shown);
  }

  private draw({ path, left, taken, down }: Shown): void {
    const on = regionsOf(path);
    const box = this.frame([...on, ...left.flatMap(({ hop }) => hop.split(">"))]);
    this.svg.setAttribute("viewBox", box.join(" "));
    this.svg.setAttribute("preserveAspectRatio", "xMidYMid slice");
    const unit = box[2] / 100;
    const parts: SVGElement[] = [make("path", { class: "land", d: LAND_PATH })];
    const line = (hop: string, attributes: Record<string, string>) => {
      const [from, to] = hop.split(">").map((region) => this.places.get(region));
      if (from && to) parts.push(make("path", { ...attributes, d: arc(from, to), "data-hop": hop }));
    };
    for (const hop of down) line(hop, { class: "down" });
    // Drawn anew in the middle of it, the fading goes on where it was.
    for (const { hop, since } of left) line(hop, { class: "left", style: `animation-delay: ${since - Date.now()}ms` });
    on.slice(1).forEach((region, i) => {
      const hop = `${on[i]}>${region}`;
      line(hop, { class: taken.includes(hop) ? "hop new" : "hop" });
    });
    for (const place of this.places.values()) {
      const lit = on.includes(place.region);
      parts.push(make("circle", {
        class: `region${lit ? " on" : ""}${place.up ? "" : " lost"}`,
        cx: x(place), cy: y(place), r: unit * (lit ? 1.1 : 0.7),
      }));
      const label = make("text", { x: x(place) + unit * 1.6, y: y(place) + unit, "font-size": unit * 2.8 });
      label.textContent = place.region;
      parts.push(label);
    }
    this.svg.replaceChildren(...parts);
  }

  /** The part of the world that holds these regions (or all), with some air, 16:9 or wider. */
  private frame(regions: string[]): [number, number, number, number] {
    const on = regions.map((r) => this.places.get(r)).filter((p) => p !== undefined);
    const shown = on.length > 1 ? on : [...this.places.values()];
    if (shown.length === 0) return [0, 0, 360, 180];
    const xs = shown.map(x);
    const ys = shown.map(y);
    const centre = [(Math.min(...xs) + Math.max(...xs)) / 2, (Math.min(...ys) + Math.max(...ys)) / 2] as const;
    const height = Math.min(150, Math.max(30, (Math.max(...ys) - Math.min(...ys)) * 1.5, (Math.max(...xs) - Math.min(...xs)) * 1.4 * 9 / 16));
    const width = height * 16 / 9;
    return [centre[0] - width / 2, centre[1] - height / 2, width, height];
  }
}

/** A gentle bow, so that there and back do not lie on each other. */
function arc(from: Place, to: Place): string {
  const dx = x(to) - x(from);
  const dy = y(to) - y(from);
  return `M${x(from)},${y(from)} q${dx / 2 - dy * 0.12},${dy / 2 + dx * 0.12} ${dx},${dy}`;
}

function make(name: string, attributes: Record<string, string | number>): SVGElement {
  const element = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}
