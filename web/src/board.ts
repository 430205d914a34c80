// The whiteboard: pages of strokes. Finished ones are the room's state; one that is being drawn is
// seen by who is here, and by nobody who comes later.

import * as schema from "../client/src/classroom";
import type { Ev } from "../client/src/index";
import type { Class } from "./lesson";
import { badge, made } from "./tabs";

/** The board's width in its own units; its height is 9/16 of it. */
const UNITS = 10_000;
const COLORS = ["#1d2b3a", "#c0492f", "#2f7f86", "#b8860b"];
const WIDTH = 40;
/** Between two pictures of a stroke that is being drawn. */
const PACE_MS = 80;
/** A stroke that is not heard of for so long is not being drawn any more. */
const PEN_MS = 3_000;
/** Pages at most. */
const MAX_PAGES = 99;

type Pen = schema.Stroke & { page: number; at: number };

export class Board {
  private readonly canvas = document.getElementById("board") as HTMLCanvasElement;
  private readonly label = document.getElementById("page")!;
  private color = COLORS[0]!;
  private mine: schema.Stroke | null = null;
  private told = 0;
  /** Strokes being drawn, by whom. */
  private readonly pens = new Map<string, Pen>();
  /** Mine that the room has not told yet, by id. */
  private readonly waiting = new Map<string, schema.Stroke & { page: number }>();

  constructor(private readonly lesson: Class) {
    document.getElementById("page-back")!.addEventListener("click", () => this.turn(-1));
    document.getElementById("page-on")!.addEventListener("click", () => this.turn(1));
    document.getElementById("wipe")!.addEventListener("click", () => {
      for (const { id } of schema.strokesOf(lesson.state, this.page)) void lesson.say(schema.stroke(this.page, id, null));
    });
    const pens = document.getElementById("pens")!;
    for (const color of COLORS) {
      const pen = made("button", "", "", () => {
        this.color = color;
        for (const other of pens.children) other.ariaChecked = String(other === pen);
      });
      pen.style.background = color;
      pen.role = "radio";
      pen.ariaLabel = color;
      pen.ariaChecked = String(color === this.color);
      pens.append(pen);
    }
    this.canvas.addEventListener("pointerdown", (event) => this.begin(event));
    this.canvas.addEventListener("pointermove", (event) => this.go(event));
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => this.end());
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  private get page(): number { return schema.pageOf(this.lesson.state)?.page ?? 1; }

  private turn(by: number): void {
    const before = schema.pageOf(this.lesson.state);
    const page = Math.min(MAX_PAGES, Math.max(1, this.page + by));
    void this.lesson.say(schema.turnTo({ ...before, page, pages: Math.max(page, before?.pages ?? 1) }));
  }

  /** Another one draws. */
  heard({ topic, key, body }: Ev): void {
    const who = key?.startsWith("board/pen/") ? key.slice("board/pen/".length) : null;
    if (topic !== "board" || who === null || who === this.lesson.me || !schema.isStroke(body)) return;
    this.pens.set(who, { ...body, page: Number((body as { page?: unknown }).page), at: Date.now() });
    setTimeout(() => this.draw(), PEN_MS + 10);
    this.draw();
  }

  private begin(event: PointerEvent): void {
    if (!this.lesson.isTeacher || event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.mine = { points: [], color: this.color, width: WIDTH };
    this.go(event);
  }

  private go(event: PointerEvent): void {
    if (!this.mine) return;
    const { left, top, width } = this.canvas.getBoundingClientRect();
    for (const { clientX, clientY } of event.getCoalescedEvents?.() ?? [event]) {
      this.mine.points.push(Math.round((clientX - left) / width * UNITS), Math.round((clientY - top) / width * UNITS));
    }
    if (this.mine.points.length === 0) this.mine.points.push(Math.round((event.clientX - left) / width * UNITS), Math.round((event.clientY - top) / width * UNITS));
    if (this.mine.points.length >= 2 * schema.MAX_POINTS) {
      // The next one begins where this one ends.
      const [x, y] = this.mine.points.slice(-2);
      this.end();
      this.mine = { points: [x!, y!], color: this.color, width: WIDTH };
    } else if (Date.now() - this.told >= PACE_MS) {
      this.told = Date.now();
      void this.lesson.say(schema.drawing(this.lesson.me, { ...this.mine, page: this.page }));
    }
    this.draw();
  }

  private end(): void {
    if (!this.mine) return;
    const id = [...crypto.getRandomValues(new Uint32Array(2))].map((it) => it.toString(16)).join("");
    const [stroke, page] = [{ ...this.mine, points: this.mine.points.slice(0, 2 * schema.MAX_POINTS) }, this.page];
    this.mine = null;
    this.waiting.set(id, { ...stroke, page });
    void this.lesson.say(schema.stroke(page, id, stroke)).finally(() => {
      this.waiting.delete(id);
      this.draw();
    });
    this.draw();
  }

  draw(): void {
    const { state, isTeacher } = this.lesson;
    const shown = schema.pageOf(state);
    const { page } = this;
    badge("board-page", shown ? page : "");
    this.label.textContent = `Page ${page}${shown?.pages ? ` of ${shown.pages}` : ""}`;
    this.label.dataset.page = String(page);
    (document.getElementById("page-back") as HTMLButtonElement).disabled = !isTeacher || page <= 1;
    const strokes = schema.strokesOf(state, page);
    this.canvas.dataset.strokes = String(strokes.length);
    const width = this.canvas.clientWidth;
    if (width === 0) return;
    const sharp = window.devicePixelRatio || 1;
    const [w, h] = [Math.round(width * sharp), Math.round(width * sharp * 9 / 16)];
    if (this.canvas.width !== w || this.canvas.height !== h) [this.canvas.width, this.canvas.height] = [w, h];
    const on = this.canvas.getContext("2d")!;
    on.clearRect(0, 0, w, h);
    const scale = w / UNITS;
    const now = Date.now();
    for (const [who, pen] of this.pens) if (now - pen.at > PEN_MS) this.pens.delete(who);
    // A finished stroke ends its pen's.
    const ends = new Set(strokes.map(({ stroke }) => stroke.points.slice(0, 4).join()));
    for (const { stroke } of strokes) line(on, stroke, scale);
    for (const pen of this.pens.values()) if (pen.page === page && !ends.has(pen.points.slice(0, 4).join())) line(on, pen, scale);
    for (const stroke of this.waiting.values()) if (stroke.page === page) line(on, stroke, scale);
    if (this.mine) line(on, this.mine, scale);
  }
}

function line(on: CanvasRenderingContext2D, { points, color, width }: schema.Stroke, scale: number): void {
  on.strokeStyle = color;
  on.lineWidth = Math.min(Math.max(width, 1), 400) * scale;
  on.lineCap = on.lineJoin = "round";
  on.beginPath();
  on.moveTo(points[0]! * scale, points[1]! * scale);
  // A point is a line to itself.
  for (let i = points.length === 2 ? 0 : 2; i < points.length; i += 2) on.lineTo(points[i]! * scale, points[i + 1]! * scale);
  on.stroke();
}
