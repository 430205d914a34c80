// Who is in a room, as its edges keep it in the keyed state: an entry each, or one summary of many.
// Pure.

import type { Entry } from "./wire.js";

/** The topic, and the first part of the keys; members may not write there. */
export const PRESENCE = "presence";

export interface Presence {
  count: number;
  /** All of them by name; of more than 500 only some. */
  members: string[];
  isWhole: boolean;
  /** A second, where there are too many to name. */
  joins: number;
  leaves: number;
}

export function presenceOf(state: ReadonlyMap<string, Entry>): Presence {
  const crowd = state.get(PRESENCE)?.body as Partial<Record<string, unknown>> | undefined;
  if (crowd) {
    const number = (value: unknown) => (typeof value === "number" ? value : 0);
    const sample = Array.isArray(crowd.sample) ? crowd.sample.filter((name) => typeof name === "string") : [];
    return { count: number(crowd.count), members: sample, isWhole: false, joins: number(crowd.joins), leaves: number(crowd.leaves) };
  }
  const members: string[] = [];
  for (const [key, { body }] of state) {
    const name = key.startsWith(`${PRESENCE}/`) && (body as { member?: unknown } | null)?.member;
    if (typeof name === "string") members.push(name);
  }
  members.sort();
  return { count: members.length, members, isWhole: true, joins: 0, leaves: 0 };
}
