// Breakout: the class divided into rooms of its own. Everybody stays here too, so that a call back
// is heard.

import * as schema from "../client/src/classroom";
import type { Class } from "./lesson";
import { made, nameOf } from "./tabs";

export class Groups {
  private readonly list = document.getElementById("groups")!;
  private readonly where = document.getElementById("where") as HTMLAnchorElement;
  private readonly count = document.getElementById("group-count") as HTMLSelectElement;
  private readonly divide = document.getElementById("divide") as HTMLButtonElement;
  private drawn = "";

  constructor(private readonly lesson: Class) {
    this.divide.addEventListener("click", () => void (schema.breakoutOf(lesson.state) ? this.callBack() : this.send()));
  }

  /** Who is here, but for the teacher, dealt out in turn. */
  private async send(): Promise<void> {
    const { room, me, here } = this.lesson;
    const count = Number(this.count.value);
    const rooms = Array.from({ length: count }, (_, i) => ({ room: `${room}-${i + 1}`, title: `Group ${i + 1}` }));
    if (!await this.lesson.say(schema.divide({ rooms }))) return;
    const members = here.members.filter((member) => member !== me);
    await Promise.all(members.map((member, i) => this.lesson.say(schema.seat(member, { room: rooms[i % count]!.room }))));
  }

  private async callBack(): Promise<void> {
    const seats = schema.seatsOf(this.lesson.state);
    if (!await this.lesson.say(schema.divide(null))) return;
    await Promise.all(seats.map(({ member }) => this.lesson.say(schema.seat(member, null))));
  }

  draw(): void {
    const { state, me, here, isTeacher } = this.lesson;
    const breakout = schema.breakoutOf(state);
    const mine = breakout && schema.seatOf(state, me);
    this.where.hidden = !mine;
    if (mine) {
      this.where.textContent = `Your group works in ${mine.room}: go there`;
      this.where.href = `/classroom/${encodeURIComponent(mine.room)}${location.search}`;
    }
    this.divide.textContent = breakout ? "Call back" : "Divide";
    this.divide.classList.toggle("on", breakout !== null);
    this.count.disabled = breakout !== null;
    const seats = schema.seatsOf(state);
    const drawn = JSON.stringify([breakout, seats, me, isTeacher, here.count]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    const lines = (breakout?.rooms ?? []).map(({ room, title }) => {
      const members = seats.filter(({ seat }) => seat.room === room).map(({ member }) => nameOf(member));
      const item = made("li", "");
      item.append(made("span", String(title ?? room)), made("span", members.join(", ") || "nobody", "name dim"));
      return item;
    });
    this.list.replaceChildren(...lines, ...(lines.length === 0 ? [made("li", "The class is together.", "none")] : []));
  }
}
