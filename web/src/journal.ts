// The list of what moved, the newest first, with reasons as the controller tells them (which may
// be later than the move itself: nodes move first).

import { reasonOf, type Change, type Switch } from "./path";

/** Lines shown, and reasons remembered; the oldest go. */
const MAX_LINES = 50;
const MAX_SWITCHES = 200;

export class Journal {
  private switches: Switch[] = [];
  private open: { change: Change; item: HTMLLIElement }[] = [];

  constructor(private readonly list: HTMLUListElement) {}

  note(text: string): HTMLLIElement {
    const item = document.createElement("li");
    item.textContent = `${new Date().toLocaleTimeString("en-GB")} ${text}`;
    this.list.prepend(item);
    while (this.list.childElementCount > MAX_LINES) this.list.lastElementChild?.remove();
    return item;
  }

  path(change: Change): void {
    this.open.push({ change, item: this.note(change.text) });
    if (this.open.length > MAX_LINES) this.open.shift();
    this.explain();
  }

  reason(it: Switch): void {
    this.switches.push(it);
    if (this.switches.length > MAX_SWITCHES) this.switches.shift();
    this.explain();
  }

  private explain(): void {
    this.open = this.open.filter(({ change, item }) => {
      const reason = reasonOf(change, this.switches);
      if (reason !== null) item.textContent += ` (${reason})`;
      return reason === null;
    });
  }
}
