// A question to all, and how many gave which answer.

import * as schema from "../client/src/classroom";
import type { Class } from "./lesson";
import { badge, made } from "./tabs";

export class PollTab {
  private readonly poll = document.getElementById("poll")!;
  private drawn = "";

  constructor(private readonly lesson: Class) {
    const question = document.getElementById("question") as HTMLInputElement;
    const options = document.getElementById("options") as HTMLInputElement;
    document.getElementById("ask")!.addEventListener("submit", async (event) => {
      event.preventDefault();
      const answers = options.value.split(/[,，]/).map((it) => it.trim()).filter(Boolean).slice(0, schema.MAX_OPTIONS);
      if (!question.value.trim() || answers.length < 2) return;
      const id = crypto.getRandomValues(new Uint32Array(1))[0]!.toString(16);
      if (await lesson.say(schema.ask({ id, question: question.value.trim(), options: answers, open: true }))) question.value = options.value = "";
    });
  }

  draw(): void {
    const { state, me, isTeacher } = this.lesson;
    const poll = schema.pollOf(state);
    const counts = poll ? schema.countOf(state, poll) : [];
    const all = counts.reduce((sum, count) => sum + count, 0);
    badge("poll-count", poll?.open ? all || "new" : "");
    const mine = state.get(`vote/${me}`)?.body as schema.Vote | undefined;
    const drawn = JSON.stringify([poll, counts, mine, isTeacher]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    if (!poll) return this.poll.replaceChildren(made("p", "Nothing is asked.", "dim"));
    const options = poll.options.map((text, option) => {
      const it = made("button", "", "option", () => void this.lesson.say(schema.vote(me, { poll: poll.id, option })));
      const count = counts[option] ?? 0;
      it.append(made("span", text), made("span", String(count)));
      it.style.setProperty("--share", `${all ? 100 * count / all : 0}%`);
      it.disabled = !poll.open;
      it.ariaPressed = String(mine?.poll === poll.id && mine.option === option);
      return it;
    });
    const row = made("div", "", "row");
    row.append(made("span", `${all} ${all === 1 ? "answer" : "answers"}${poll.open ? "" : ", closed"}`, "dim"));
    if (isTeacher) {
      row.append(
        made("button", poll.open ? "Close" : "Open again", "", () => void this.lesson.say(schema.ask({ ...poll, open: !poll.open }))),
        made("button", "Remove", "", () => void this.lesson.say(schema.ask(null))),
      );
    }
    this.poll.replaceChildren(made("h3", poll.question), ...options, row);
  }
}
