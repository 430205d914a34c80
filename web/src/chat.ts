// The chat: what was said since this page came, the newest below.

import * as schema from "../client/src/classroom";
import type { Ev } from "../client/src/index";
import type { Class } from "./lesson";
import { made, nameOf } from "./tabs";

const MAX_LINES = 200;

export class Chat {
  private readonly list = document.getElementById("messages") as HTMLUListElement;
  private readonly text = document.getElementById("text") as HTMLInputElement;
  private readonly rule = document.getElementById("chat-rule") as HTMLButtonElement;

  constructor(private readonly lesson: Class) {
    document.getElementById("compose")!.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.send();
    });
    this.rule.addEventListener("click", () => void lesson.say(schema.chatRule(!schema.isChatOpen(lesson.state))));
  }

  private async send(): Promise<void> {
    const text = this.text.value.trim();
    if (!text || this.text.disabled) return;
    this.text.value = "";
    // What the room does not take is there to be sent again, unless something else was begun.
    if (!await this.lesson.say(schema.say(text, this.name()))) this.text.value ||= text;
  }

  /** Where the name is another one after each connection, it is said. */
  private name(): string | undefined {
    const { me } = this.lesson;
    return nameOf(me) === me ? undefined : nameOf(me);
  }

  draw(): void {
    const isOpen = schema.isChatOpen(this.lesson.state);
    this.text.disabled = !isOpen && !this.lesson.isTeacher;
    this.text.placeholder = this.text.disabled ? "The teacher has closed the chat" : "Write to the room";
    this.rule.textContent = isOpen ? "Close chat" : "Open chat";
    this.rule.classList.toggle("on", !isOpen);
  }

  clear(): void { this.list.replaceChildren(); }

  heard({ from, body }: Ev): void {
    const { text, name } = (body ?? {}) as Partial<schema.Chat>;
    const item = made("li", "");
    item.append(made("b", typeof name === "string" ? name : nameOf(from)), typeof text === "string" ? text : JSON.stringify(body));
    this.put(item);
  }

  note(text: string): void {
    const last = this.list.lastElementChild;
    // Once is enough.
    if (last?.className !== "note" || last.textContent !== text) this.put(made("li", text, "note"));
  }

  private put(item: HTMLLIElement): void {
    this.list.append(item);
    while (this.list.childElementCount > MAX_LINES) this.list.firstElementChild?.remove();
    this.list.scrollTop = this.list.scrollHeight;
  }
}
