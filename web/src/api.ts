// What the page asks of edges and, with an admin token, of the controller.

import type { Hop, Switch } from "./path";

export interface EdgeInfo {
  id: string; region: string; country: string; city: string;
  lat: number; lon: number; http: string; rtmp: string;
}
export interface TrackInfo { name: string; kind: string; codec: string }
export interface StreamInfo {
  stream: string; origin: string; generation: string;
  tracks: TrackInfo[]; viewers: number; path: Hop[] | null;
}
export interface RoomInfo { room: string; edge: string; region: string; streams: StreamInfo[]; members: number }
export interface NodeInfo { id: string; role: string; region: string; lat: number; lon: number; up: boolean }
export interface LinkInfo { from: string; to: string; up: boolean; rtt_ms: number | null }
export interface Topology { nodes: NodeInfo[]; links: LinkInfo[] }

export class ApiError extends Error {
  constructor(readonly status: number, message: string) { super(message); }
}

async function get<T>(url: string, token?: string): Promise<T> {
  const headers: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch(url, { headers, signal: AbortSignal.timeout(10_000) });
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({})) as { message?: string };
    throw new ApiError(answer.status, body.message ?? `${url}: HTTP ${answer.status}`);
  }
  return answer.json() as Promise<T>;
}

/** A user's token, where the page was opened with one; rooms that are open need none. */
export const userToken = new URLSearchParams(location.search).get("token");
export const withToken = (url: string) =>
  userToken ? `${url}${url.includes("?") ? "&" : "?"}token=${encodeURIComponent(userToken)}` : url;

export const edges = (base: string) => get<EdgeInfo[]>(`${base}/edges`);
export const room = (base: string, name: string) =>
  get<RoomInfo>(withToken(`${base}/rooms/${encodeURIComponent(name)}`));
/** The same, told as it changes; `broke`: not told any more. Close it when done. */
export function roomEvents(base: string, name: string, told: (room: RoomInfo) => void, broke: () => void): EventSource {
  const events = new EventSource(withToken(`${base}/rooms/${encodeURIComponent(name)}/events`));
  events.addEventListener("room", ({ data }: MessageEvent<string>) => told(JSON.parse(data) as RoomInfo));
  events.onerror = broke;
  return events;
}

/** What the controller says of routes, until it ends. An EventSource could not carry the token. */
export async function switches(token: string, told: (it: Switch) => void): Promise<void> {
  const answer = await fetch("/api/v1/events", { headers: { authorization: `Bearer ${token}` } });
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader?.read() ?? { done: true, value: undefined };
    if (done || value === undefined) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const event = JSON.parse(line.slice(5)) as { t: string } & Switch;
      if (event.t === "route_switched") told(event);
    }
  }
}

export const topology = (token: string) => get<Topology>("/api/v1/topology", token);
export const rooms = (token: string) => get<{ room: string; tenant?: string }[]>("/api/v1/rooms", token);
