// Raised hands, the stage, and silence.

import * as schema from "../client/src/classroom";
import type { Class } from "./lesson";
import { badge, made, nameOf } from "./tabs";

export class Hands {
  private readonly raise = document.getElementById("raise") as HTMLButtonElement;
  private readonly muteAll = document.getElementById("mute-all") as HTMLButtonElement;
  private readonly hands = document.getElementById("hands")!;
  private readonly stage = document.getElementById("stage")!;
  private drawn = "";

  constructor(private readonly lesson: Class) {
    this.raise.addEventListener("click", () => {
      const { me } = lesson;
      void lesson.say(this.isRaised() ? schema.lowerHand(me) : schema.raiseHand(me));
    });
    this.muteAll.addEventListener("click", () => {
      const { state, me } = lesson;
      void lesson.say(schema.mute(schema.muteOf(state)?.all ? null : { all: true, except: [me] }));
    });
    setInterval(() => this.tick(), 1_000);
  }

  private isRaised(): boolean { return this.lesson.state.has(`hand/${this.lesson.me}`); }

  draw(): void {
    const { state, me, isTeacher } = this.lesson;
    const hands = schema.handsOf(state);
    const stage = schema.stageOf(state);
    badge("hands-count", hands.length);
    this.raise.disabled = me === "";
    this.raise.textContent = this.isRaised() ? "Lower hand" : "Raise hand";
    this.raise.classList.toggle("on", this.isRaised());
    this.muteAll.textContent = schema.muteOf(state)?.all ? "Unmute all" : "Mute all";
    this.muteAll.classList.toggle("on", schema.muteOf(state)?.all ?? false);
    // Buttons under a finger are not replaced for nothing.
    const drawn = JSON.stringify([hands, stage, me, isTeacher]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.hands.replaceChildren(...hands.map(({ member, since, hand }) => {
      const item = this.person(member, hand.name ?? nameOf(member));
      const time = made("time", "");
      time.dataset.since = String(since);
      item.append(time);
      if (isTeacher) item.append(made("button", "To the stage", "", () => this.invite(member)), made("button", "Lower", "", () => void this.lesson.say(schema.lowerHand(member))));
      return item;
    }), ...(hands.length === 0 ? [made("li", "No hand is raised.", "none")] : []));
    this.stage.replaceChildren(...stage.map(({ member, stage }) => {
      const item = this.person(member, stage.name ?? nameOf(member));
      if (isTeacher) item.append(made("button", "Off the stage", "", () => void this.lesson.say(schema.stage(member, null))));
      return item;
    }), ...(stage.length === 0 ? [made("li", "Nobody is on stage.", "none")] : []));
    this.tick();
  }

  private invite(member: string): void {
    void this.lesson.say(schema.stage(member, { audio: true, video: true }));
    void this.lesson.say(schema.lowerHand(member));
  }

  private person(member: string, name: string): HTMLLIElement {
    const item = made("li", "");
    item.dataset.member = member;
    const isMe = member === this.lesson.me;
    item.append(made("span", isMe ? `${name} (you)` : name, isMe ? "name me" : "name"));
    return item;
  }

  /** How long each waits. */
  private tick(): void {
    for (const time of this.hands.querySelectorAll("time")) {
      const seconds = Math.max(0, Math.round((Date.now() - Number(time.dataset.since)) / 1_000));
      time.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    }
  }
}
