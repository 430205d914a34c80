// Who is in a room, as its edges keep it in the keyed state: an entry each, or one summary of many.
// Pure.
/** The topic, and the first part of the keys; members may not write there. */
export const PRESENCE = "presence";
export function presenceOf(state) {
    const crowd = state.get(PRESENCE)?.body;
    if (crowd) {
        const number = (value) => (typeof value === "number" ? value : 0);
        const sample = Array.isArray(crowd.sample) ? crowd.sample.filter((name) => typeof name === "string") : [];
        return { count: number(crowd.count), members: sample, isWhole: false, joins: number(crowd.joins), leaves: number(crowd.leaves) };
    }
    const members = [];
    for (const [key, { body }] of state) {
        const name = key.startsWith(`${PRESENCE}/`) && body?.member;
        if (typeof name === "string")
            members.push(name);
    }
    members.sort();
    return { count: members.length, members, isWhole: true, joins: 0, leaves: 0 };
}
