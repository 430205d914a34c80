// The classroom page in Chromium: a teacher, a student, and one who comes late.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Backbone, within } from "./backbone.mjs";
import { Page } from "./chromium.mjs";

test("a teacher and a student share hands, stage, board and poll, and who comes late sees them", async () => {
  const backbone = await Backbone.start(["cn-shanghai", "hk", "sg"]);
  const undo = [() => backbone.stop()];
  try {
    const open = async (region, as) => {
      const page = await Page.open(`${backbone.edge(region).http}/classroom/math${as}`);
      undo.push(() => page.close());
      await within("the page is in the room", () => page.eval("document.getElementById('raise')?.disabled === false"));
      return page;
    };
    const [teacher, student] = [await open("hk", "?as=teacher"), await open("sg", "")];
    const is = (page, what, expression) => within(what, () => page.eval(expression));
    const click = (page, where) => page.eval(`document.querySelector(${JSON.stringify(where)}).click(); 1`);

    await click(student, "#raise");
    await is(teacher, "the hand is in the teacher's list", "document.querySelectorAll('#hands li[data-member]').length === 1");
    assert.equal(await student.eval("getComputedStyle(document.getElementById('mute-all')).display"), "none");
    await click(teacher, "#mute-all");
    await is(student, "the student is muted", "!document.getElementById('rule').hidden");
    await is(teacher, "the teacher sees it", "document.getElementById('mute-all').textContent === 'Unmute all'");
    await click(teacher, "#hands li button");
    await is(student, "the student is on stage and may speak", "!!document.querySelector('#stage li[data-member] .me') && document.getElementById('rule').hidden");
    await is(teacher, "the hand is lowered", "document.querySelector('#hands li[data-member]') === null");

    await teacher.eval("document.getElementById('question').value = '2 + 2?'; document.getElementById('options').value = '3, 4'; document.getElementById('ask').requestSubmit(); 1");
    await is(student, "the question is asked", "document.querySelectorAll('#poll .option').length === 2");
    await click(student, "#poll .option:nth-of-type(2)");
    await is(teacher, "the answer is counted", "document.querySelectorAll('#poll .option')[1]?.lastChild.textContent === '1'");

    // The board: a stroke by the pointer, seen by the other.
    await click(teacher, "#tab-board");
    const [x, y, width] = await teacher.eval("(() => { const it = document.getElementById('board'); it.scrollIntoView(); const at = it.getBoundingClientRect(); return [at.left, at.top, at.width]; })()");
    const pointer = (type, at) => teacher.call("Input.dispatchMouseEvent", { type, button: "left", buttons: 1, clickCount: 1, x: x + at, y: y + at / 2 });
    await pointer("mousePressed", width / 4);
    for (let at = width / 4; at < width / 2; at += 8) await pointer("mouseMoved", at);
    await pointer("mouseReleased", width / 2);
    await is(student, "the stroke is there", "document.getElementById('board').dataset.strokes === '1'");
    await click(teacher, "#page-on");
    await is(student, "the page is turned", "document.getElementById('page').dataset.page === '2' && document.getElementById('board').dataset.strokes === '0'");
    await is(teacher, "the teacher sees it turned", "document.getElementById('page').dataset.page === '2'");
    await click(teacher, "#page-back");
    await click(teacher, "#chat-rule");
    await is(student, "the chat is closed", "document.getElementById('text').disabled");

    const late = await open("sg", "");
    await is(late, "a late one sees the page, its stroke, the stage, the poll and the rule", `
      document.getElementById('page').dataset.page === '1' && document.getElementById('board').dataset.strokes === '1'
      && document.querySelectorAll('#stage li[data-member]').length === 1 && document.querySelectorAll('#poll .option').length === 2
      && document.getElementById('text').disabled`);

    // The class is divided among who is here, and called back.
    await is(teacher, "three are here", "document.getElementById('here').textContent === '3 here'");
    await click(teacher, "#divide");
    await is(student, "the student is told where to go", "!document.getElementById('where').hidden && /classroom.math-[12]$/.test(document.getElementById('where').href)");
    await is(late, "the other one is in the other room", "!document.getElementById('where').hidden");
    assert.notEqual(await late.eval("document.getElementById('where').href"), await student.eval("document.getElementById('where').href"));
    await is(teacher, "the teacher sees both groups filled", "document.querySelectorAll('#groups li').length === 2 && !document.getElementById('groups').textContent.includes('nobody')");
    await click(teacher, "#divide");
    await is(student, "the class is called back", "document.getElementById('where').hidden");

    // The teacher's edge dies; the class goes on.
    backbone.longspan("lab", "node", "kill", backbone.edge("hk").id);
    await click(teacher, "#chat-rule");
    await is(student, "the chat is open again", "!document.getElementById('text').disabled");
  } finally {
    for (const it of undo.reverse()) await it();
  }
});
