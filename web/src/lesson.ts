// The class: what is said in the room, by the reference schema (docs/classroom.md), over the client
// of web/client. Each tab draws from the room's state; nothing is kept beside it.

import * as schema from "../client/src/classroom";
import { connect, LongspanError, type Client, type Ev, type Message, type Presence } from "../client/src/index";
import { userToken } from "./api";
import { Board } from "./board";
import { Chat } from "./chat";
import { Groups } from "./groups";
import { Hands } from "./hands";
import { PollTab } from "./poll";
import { Tabs } from "./tabs";

/** What the tabs see of the class. */
export interface Class {
  readonly state: Client["state"];
  /** Who is at this page: the same over all connections. */
  readonly me: string;
  readonly isTeacher: boolean;
  readonly room: string;
  readonly here: Presence;
  /** Says it; what the room refuses is told in the chat. True: it was taken. */
  say(message: Message): Promise<boolean>;
}

export class Lesson implements Class {
  me = "";
  private client: Client | null = null;
  room = "";
  private readonly role = document.getElementById("role") as HTMLSelectElement;
  private readonly rule = document.getElementById("rule")!;
  private readonly count = document.getElementById("here")!;
  private readonly compose = document.getElementById("compose")!;
  private readonly chat = new Chat(this);
  private readonly board = new Board(this);
  private readonly tabs = [this.chat, new Hands(this), new Groups(this), this.board, new PollTab(this)];
  private isDrawn = true;

  constructor() {
    new Tabs(document.querySelector("[role=tablist]")!, () => this.draw());
    this.role.value = new URLSearchParams(location.search).get("as") === "teacher" ? "teacher" : "student";
    this.role.addEventListener("change", () => this.draw());
    this.draw();
  }

  get state(): Client["state"] { return this.client?.state ?? new Map(); }
  get here(): Presence { return this.client?.presence ?? { count: 0, members: [], isWhole: true, joins: 0, leaves: 0 }; }
  get isTeacher(): boolean { return this.role.value === "teacher"; }

  /** Joins the room, or goes on in it at the first of these edges. */
  at(room: string, edges: string[]): void {
    if (edges.length === 0) return;
    if (this.client && this.room === room) return this.client.use(edges);
    this.client?.close();
    this.chat.clear();
    this.room = room;
    this.me = "";
    const client = this.client = connect({ urls: edges, room, ...(userToken && { token: userToken }) });
    client.on("ev", (event) => { if (client === this.client) this.heard(event); });
    client.on("state", () => this.draw());
    client.on("presence", () => this.draw());
    client.on("gap", ({ from, to }) => this.chat.note(`Messages ${from}–${to} are no longer held.`));
    client.on("error", ({ error }) => { if (client === this.client) this.chat.note(error.message); });
    client.on("status", ({ member, error, phase }) => {
      if (client !== this.client) return;
      // In a room that is open each connection has a name of its own; the first one stays.
      if (member !== null) this.me ||= member;
      this.compose.dataset.member = member ?? "";
      if (phase === "closed" && error) this.chat.note(`The room is left: ${error.message}.`);
      this.draw();
    });
  }

  async say(message: Message): Promise<boolean> {
    try {
      await this.client?.publish(message);
      return this.client !== null;
    } catch (error) {
      if (message.class !== "ephemeral") this.chat.note(`Not done: ${(error as LongspanError).message}`);
      return false;
    }
  }

  private heard(event: Ev): void {
    if (event.topic === "chat" && event.class === "log") this.chat.heard(event);
    else if (event.class === "ephemeral") this.board.heard(event);
    else this.draw();
  }

  /** Draws everything anew, once a frame at most. */
  draw(): void {
    if (!this.isDrawn) return;
    this.isDrawn = false;
    requestAnimationFrame(() => {
      this.isDrawn = true;
      const panel = this.rule.parentElement!;
      panel.classList.toggle("student", !this.isTeacher);
      panel.classList.toggle("teacher-here", this.isTeacher);
      for (const tab of this.tabs) tab.draw();
      this.rule.hidden = !schema.isMuted(this.state, this.me);
      this.rule.textContent = this.isTeacher ? "Everybody is muted but who is on stage." : "The teacher has muted everybody.";
      const { count } = this.here;
      this.count.textContent = count > 0 ? `${count} here` : "";
    });
  }
}
