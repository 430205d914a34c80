// The map: land, regions, links, and the path the lesson takes. One unit is one degree.

import type { PathNode } from "./api";

declare const LAND_PATH: string;
const NS = "http://www.w3.org/2000/svg";

export interface Place { region: string; lat: number; lon: number; up: boolean }

const x = (place: Place) => place.lon + 180;
const y = (place: Place) => 90 - place.lat;

export class WorldMap {
  private places = new Map<string, Place>();
  private path: PathNode[] = [];
  private drawn = "";

  constructor(private readonly svg: SVGSVGElement) {}

  show(places: Place[], path: PathNode[]): void {
    this.places = new Map(places.map((place) => [place.region, place]));
    this.path = path;
    const key = JSON.stringify([places, path]);
    if (key === this.drawn) return;
    this.drawn = key;
    this.draw();
  }

  private draw(): void {
    const box = this.frame();
    this.svg.setAttribute("viewBox", box.join(" "));
    this.svg.setAttribute("preserveAspectRatio", "xMidYMid slice");
    const unit = box[2] / 100;
    const on = regionsOf(this.path);
    const parts: SVGElement[] = [make("path", { class: "land", d: LAND_PATH })];
    on.slice(1).forEach((region, i) => {
      const from = this.places.get(on[i]!);
      const to = this.places.get(region);
      if (from && to) parts.push(make("path", { class: "hop", d: arc(from, to) }));
    });
    for (const place of this.places.values()) {
      const lit = on.includes(place.region);
      parts.push(make("circle", {
        class: `region${lit ? " on" : ""}${place.up ? "" : " down"}`,
        cx: x(place), cy: y(place), r: unit * (lit ? 1.1 : 0.7),
      }));
      const label = make("text", { x: x(place) + unit * 1.6, y: y(place) + unit, "font-size": unit * 2.8 });
      label.textContent = place.region;
      parts.push(label);
    }
    this.svg.replaceChildren(...parts);
  }

  /** The part of the world that holds the path (or all regions), with some air, 16:9 or wider. */
  private frame(): [number, number, number, number] {
    const on = regionsOf(this.path).map((r) => this.places.get(r)).filter((p) => p !== undefined);
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

/** The regions of a path in order, without the repeats of an edge and its relay. */
export function regionsOf(path: PathNode[]): string[] {
  return path.map((hop) => hop.region).filter((region, i, all) => region !== all[i - 1]);
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
