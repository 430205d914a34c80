// What the page asks of edges and, with an admin token, of the controller.

export interface EdgeInfo {
  id: string; region: string; country: string; city: string;
  lat: number; lon: number; http: string; rtmp: string;
}
export interface TrackInfo { name: string; kind: string; codec: string }
export interface PathNode { node: string; region: string }
export interface StreamInfo {
  stream: string; origin: string; generation: string;
  tracks: TrackInfo[]; viewers: number; path: PathNode[] | null;
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
const userToken = new URLSearchParams(location.search).get("token");
export const withToken = (url: string) =>
  userToken ? `${url}${url.includes("?") ? "&" : "?"}token=${encodeURIComponent(userToken)}` : url;

export const edges = (base: string) => get<EdgeInfo[]>(`${base}/edges`);
export const room = (base: string, name: string) =>
  get<RoomInfo>(withToken(`${base}/rooms/${encodeURIComponent(name)}`));
export const topology = (token: string) => get<Topology>("/api/v1/topology", token);
export const rooms = (token: string) => get<{ room: string; tenant?: string }[]>("/api/v1/rooms", token);
