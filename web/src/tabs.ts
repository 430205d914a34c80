// Tabs, by the keyboard too (WAI-ARIA Authoring Practices, "Tabs").

export class Tabs {
  private readonly tabs: HTMLElement[];

  constructor(list: Element, private readonly chosen: () => void) {
    this.tabs = [...list.querySelectorAll<HTMLElement>("[role=tab]")];
    for (const [i, tab] of this.tabs.entries()) {
      tab.addEventListener("click", () => this.choose(i));
      tab.addEventListener("keydown", ({ key }) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
        if (!step) return;
        const next = (i + step + this.tabs.length) % this.tabs.length;
        this.choose(next);
        this.tabs[next]!.focus();
      });
    }
  }

  private choose(at: number): void {
    for (const [i, tab] of this.tabs.entries()) {
      tab.setAttribute("aria-selected", String(i === at));
      tab.tabIndex = i === at ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")!)!.hidden = i !== at;
    }
    this.chosen();
  }
}

/** A tab's number; none where there is nothing. */
export function badge(id: string, text: string | number): void {
  const it = document.getElementById(id)!;
  it.textContent = String(text);
  it.hidden = !text;
}

/** A member as it is shown: in a room that is open names are random. */
export const nameOf = (member: string) => member.replace(/^m-([0-9a-f]{4})[0-9a-f]{12}$/, "guest $1");

/** An element with text, a class and what a click does. */
export function made<K extends keyof HTMLElementTagNameMap>(name: K, text: string, kind = "", click?: () => void): HTMLElementTagNameMap[K] {
  const it = document.createElement(name);
  it.textContent = text;
  it.className = kind;
  if (it instanceof HTMLButtonElement) it.type = "button";
  if (click) it.addEventListener("click", click);
  return it;
}
