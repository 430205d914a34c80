// The reference schema of a classroom (docs/classroom.md): what is said in a room, under which
// topic and key, and how it is read back. Pure; nothing here is known to the backbone.
/** A stroke's points at most: its body stays below 16 KB. */
export const MAX_POINTS = 1_000;
/** A poll's options at most. */
export const MAX_OPTIONS = 10;
const state = (topic, key, body) => ({ topic, class: "state", key, body });
export const say = (text, name) => ({ topic: "chat", class: "log", body: { text, ...(name && { name }) } });
export const chatRule = (open) => state("room", "room/chat", { open });
export const mute = (body) => state("room", "room/mute", body);
export const turnTo = (body) => state("board", "board/page", body);
export const stroke = (page, id, body) => state("board", `board/stroke/${page}/${id}`, body);
/** A stroke while it is drawn: everybody sees it grow, and nobody who comes later. */
export const drawing = (member, body) => ({ topic: "board", class: "ephemeral", key: `board/pen/${member}`, body });
export const raiseHand = (member, body = {}) => state("hand", `hand/${member}`, body);
/** The member's own, or a teacher's: the hand was seen. */
export const lowerHand = (member) => state("hand", `hand/${member}`, null);
/** Null: off the stage. */
export const stage = (member, body) => state("stage", `stage/${member}`, body);
export const ask = (body) => state("poll", "poll/open", body);
export const vote = (member, body) => state("vote", `vote/${member}`, body);
export const divide = (body) => state("breakout", "breakout/open", body);
export const seat = (member, body) => state("breakout", `breakout/to/${member}`, body);
/** What a key holds, if it has the shape; members write what they like, so it is looked at. */
const read = (from, key, fits) => {
    const body = from.get(key)?.body;
    return typeof body === "object" && body !== null && fits(body) ? body : null;
};
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
export const pageOf = (from) => read(from, "board/page", ({ page }) => Number.isSafeInteger(page) && page >= 1);
export const muteOf = (from) => read(from, "room/mute", ({ all, except }) => typeof all === "boolean" && (except === undefined || Array.isArray(except)));
export const isChatOpen = (from) => read(from, "room/chat", ({ open }) => typeof open === "boolean")?.open ?? true;
export const isMuted = (from, member) => {
    const rule = muteOf(from);
    if (rule === null || !rule.all || (rule.except ?? []).includes(member))
        return false;
    return read(from, `stage/${member}`, ({ audio }) => audio === true) === null;
};
export const isStroke = (body) => (typeof body === "object" && body !== null && typeof body.color === "string" && isNumber(body.width) && Array.isArray(body.points)
    && body.points.length % 2 === 0 && body.points.length <= 2 * MAX_POINTS && body.points.every(isNumber));
/** The strokes of a page, the oldest first. */
export function strokesOf(from, page) {
    return under(from, `board/stroke/${page}/`).filter(({ entry }) => isStroke(entry.body)).map(({ rest, entry }) => ({ id: rest, stroke: entry.body }));
}
/** Raised hands, the one that waits longest first. */
export function handsOf(from) {
    return under(from, "hand/").map(({ rest, entry }) => ({ member: rest, since: entry.at, hand: (entry.body ?? {}) }));
}
export function stageOf(from) {
    return under(from, "stage/").map(({ rest, entry }) => ({ member: rest, stage: entry.body }));
}
export const pollOf = (from) => read(from, "poll/open", ({ id, question, options }) => (typeof id === "string" && typeof question === "string" && Array.isArray(options)
    && options.length <= MAX_OPTIONS && options.every((option) => typeof option === "string")));
/** Votes for each option of a poll. */
export function countOf(from, { id, options }) {
    const counts = options.map(() => 0);
    for (const { entry } of under(from, "vote/")) {
        const { poll, option } = (entry.body ?? {});
        if (poll === id && option !== undefined && counts[option] !== undefined)
            counts[option] += 1;
    }
    return counts;
}
const isRoom = (it) => typeof it === "object" && it !== null && typeof it.room === "string";
export const breakoutOf = (from) => read(from, "breakout/open", ({ rooms }) => Array.isArray(rooms) && rooms.every(isRoom));
export const seatOf = (from, member) => read(from, `breakout/to/${member}`, isRoom);
export function seatsOf(from) {
    return under(from, "breakout/to/").filter(({ entry }) => isRoom(entry.body)).map(({ rest, entry }) => ({ member: rest, seat: entry.body }));
}
/** Entries whose key begins so, the oldest first. */
function under(from, prefix) {
    const found = [];
    for (const [key, entry] of from)
        if (key.startsWith(prefix))
            found.push({ rest: key.slice(prefix.length), entry });
    return found.sort((a, b) => a.entry.revision - b.entry.revision);
}
