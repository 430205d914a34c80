// What a member and an edge say to each other, in JSON (subprotocol `longspan.v1+json`). Pure.
export const PROTOCOL = "longspan.v1+json";
/** The edge reads no message above this (bytes of JSON). */
export const MAX_MESSAGE = 100 << 10;
/** How deep a body may be nested. */
export const MAX_DEPTH = 100;
/** Reads what an edge said; one event is read as a batch of one. Null: it is not a message. */
export function parse(text) {
    let said;
    try {
        said = JSON.parse(text);
    }
    catch {
        return null;
    }
    if (typeof said !== "object" || said === null)
        return null;
    switch (said.t) {
        case "welcome":
            if (!isText(said.member, said.log) || !isPlace(said.seq, said.n) || !isLimits(said.limits))
                return null;
            return said.state === undefined || isState(said.state) ? { ...said, more: said.more === true } : null;
        case "state": return isText(said.log) && isPlace(said.seq) && isState(said.state) ? { ...said, more: said.more === true } : null;
        case "ack": return isPlace(said.n) && (said.seq === undefined || isPlace(said.seq)) ? said : null;
        case "ev": return isEv(said) ? { t: "evs", evs: [ev(said)], skipped: 0 } : null;
        case "evs": {
            const { evs, skipped = 0 } = said;
            return Array.isArray(evs) && evs.every(isEv) && isPlace(skipped) ? { t: "evs", evs: evs.map(ev), skipped } : null;
        }
        case "gap": return isPlace(said.from, said.to) && isText(said.log) ? said : null;
        case "err": return isText(said.error, said.message) && (said.n === undefined || isPlace(said.n)) ? said : null;
        case "goaway": {
            const alternatives = Array.isArray(said.alternatives) ? said.alternatives.filter((it) => isText(it)) : [];
            return { t: "goaway", deadline_ms: Number(said.deadline_ms) || 0, alternatives };
        }
        case "pong": return said;
        default: return isText(said.t) ? { t: "unknown" } : null;
    }
}
const isText = (...values) => values.every((value) => typeof value === "string");
const isPlace = (...values) => values.every((value) => Number.isSafeInteger(value) && value >= 0);
const isObject = (value) => typeof value === "object" && value !== null;
const isLimits = (it) => isObject(it) && isPlace(it.body, it.rate, it.burst, it.unanswered);
const isEv = (it) => isObject(it) && isText(it.from, it.topic, it.class) && (it.class === "ephemeral" || isPlace(it.seq));
const isState = (it) => isObject(it) && Object.values(it).every((entry) => isObject(entry) && isPlace(entry.revision));
const ev = ({ seq, from, at, class: kind, topic, key, body }) => ({ ...(kind !== "ephemeral" && { seq }), from, at, class: kind, topic, ...(key != null && { key }), body });
/** Whether a body is nested deeper than an edge reads. */
export function isTooDeep(body, depth = MAX_DEPTH) {
    if (typeof body !== "object" || body === null)
        return false;
    return depth <= 1 || Object.values(body).some((inner) => isTooDeep(inner, depth - 1));
}
