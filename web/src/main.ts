// The page: one room, seen from one edge. Served by an edge (/classroom/ROOM) it knows that edge
// and its fellows; served by the controller (with the admin token in the fragment) it also knows
// all rooms, the measured links, and why routes moved.

import * as api from "./api";
import { Journal } from "./journal";
import { Lesson } from "./lesson";
import { WorldMap, type Place } from "./map";
import { FADE_MS, History, hopsOf, regionsOf, type Hop } from "./path";
import { Player } from "./player";
import { Rounds } from "../client/src/rounds";

const REFRESH_MS = 1_000;

const el = <T extends Element>(id: string) => document.getElementById(id) as unknown as T;
const ui = {
  room: el<HTMLSelectElement>("room"), stream: el<HTMLSelectElement>("stream"), edge: el<HTMLSelectElement>("edge"),
  status: el<HTMLElement>("status"), notice: el<HTMLElement>("notice"), from: el<HTMLElement>("from"),
  unmute: el<HTMLButtonElement>("unmute"), delay: el<HTMLElement>("delay"), buffer: el<HTMLElement>("buffer"),
  pathDelay: el<HTMLElement>("path-delay"), generation: el<HTMLElement>("generation"), path: el<HTMLOListElement>("path"),
};

const fragment = new URLSearchParams(location.hash.slice(1));
const adminToken = fragment.get("token");
const classroom = /^\/classroom\/([^/]+)/.exec(location.pathname);
const fixedRoom = classroom ? decodeURIComponent(classroom[1]!) : null;
const onController = fixedRoom === null;

const map = new WorldMap(el<SVGSVGElement>("map"));
const journal = new Journal(el<HTMLUListElement>("log"));
const history = new History();
const notice = (text: string | null) => {
  ui.notice.textContent = text ?? "";
  ui.notice.hidden = text === null;
};
const player = new Player([...document.querySelectorAll("video")] as [HTMLVideoElement, HTMLVideoElement], {
  delay: (endToEnd, buffer) => {
    ui.delay.textContent = `${Math.round(endToEnd)} ms`;
    ui.delay.dataset.ms = String(Math.round(endToEnd));
    ui.buffer.textContent = `${Math.round(buffer)} ms`;
  },
  notice,
  moved: (edge, from, why) => {
    ui.from.textContent = edge;
    if (from !== null && why) journal.note(`Watching from ${edge} now instead of ${from} (${why})`);
    follow();
    queueMicrotask(show);
  },
});

/** All edges that were ever told, and whether each is there now. */
const edges = new Map<string, api.EdgeInfo & { up: boolean }>();
let topology: api.Topology | null = null;
let room: api.RoomInfo | null = null;
const lesson = new Lesson();

function fill(select: HTMLSelectElement, options: { value: string; text: string }[], wanted?: string | null): void {
  const key = JSON.stringify(options);
  if (select.dataset.options === key) return;
  const keep = wanted ?? select.value;
  select.replaceChildren(...options.map(({ value, text }) => new Option(text, value)));
  if (options.some(({ value }) => value === keep)) select.value = keep;
  select.dataset.options = key;
}

/** What there is to choose from. */
async function refresh(): Promise<void> {
  let told: (api.EdgeInfo & { up?: boolean })[];
  if (onController) {
    if (!adminToken) throw new Error("Open this page with the address that was printed: it carries the admin token.");
    topology = await api.topology(adminToken);
    told = (topology.nodes as (api.NodeInfo & api.EdgeInfo)[]).filter((node) => node.role === "edge");
    const rooms = await api.rooms(adminToken);
    fill(ui.room, rooms.map(({ room }) => ({ value: room, text: room })), ui.room.value || fragment.get("room"));
  } else {
    // Any edge tells of all; ours may be the one that was lost.
    told = await api.edges("").catch(() => api.edges(edges.get(player.edge ?? "")?.http ?? ""));
    fill(ui.room, [{ value: fixedRoom, text: fixedRoom }]);
  }
  for (const edge of edges.values()) edge.up = false;
  for (const edge of told) edges.set(edge.id, { ...edge, up: edge.up ?? true });
  const sorted = [...edges.values()].sort((a, b) => a.id.localeCompare(b.id));
  const here = sorted.find((edge) => edge.http && new URL(edge.http).host === location.host);
  // On the controller's page: the sample's far end, so that the path is worth looking at.
  const first = here ?? sorted.find((edge) => edge.region === "sg") ?? sorted[0];
  fill(ui.edge, sorted.map(({ id, region, city, up }) => ({ value: id, text: `${region} (${up ? city || id : "down"})` })),
    ui.edge.value || fragment.get("edge") || first?.id);
}

/** The edges, best first: the chosen one, then the nearer the better, those that are down last. */
function choice(): (api.EdgeInfo & { up: boolean })[] {
  const wanted = edges.get(ui.edge.value);
  if (!wanted) return [];
  const far = (edge: api.EdgeInfo) => {
    const rad = Math.PI / 180;
    const [a, b] = [wanted.lat * rad, edge.lat * rad];
    const cosine = Math.sin(a) * Math.sin(b) + Math.cos(a) * Math.cos(b) * Math.cos((edge.lon - wanted.lon) * rad);
    return Math.acos(Math.min(1, Math.max(-1, cosine)));
  };
  const others = [...edges.values()].filter((edge) => edge !== wanted && edge.http);
  others.sort((a, b) => Number(b.up) - Number(a.up) || far(a) - far(b) || a.id.localeCompare(b.id));
  return [wanted, ...others];
}

/** Whom to ask about the room where nothing plays. */
const asked = new Rounds();
let events: EventSource | null = null;
let eventsOf = "";

/** Listens to what the edge in use says of the room. */
function follow(): void {
  const order = choice();
  asked.offer(order.map(({ id }) => id));
  const edge = edges.get(player.edge ?? asked.current() ?? "");
  const key = edge && ui.room.value ? `${edge.id} ${ui.room.value}` : "";
  if (key === eventsOf) return;
  events?.close();
  events = null;
  eventsOf = key;
  if (!edge || !key) return;
  const mine = events = api.roomEvents(edge.http, ui.room.value, (told) => {
    asked.good();
    room = told;
    show();
  }, () => {
    mine.close();
    // The edge in use: the player knows best whether it is lost, and until then it is asked again.
    const pause = player.edge === edge.id ? REFRESH_MS : asked.next();
    setTimeout(() => {
      if (eventsOf !== key) return;
      eventsOf = "";
      follow();
    }, pause);
  });
  lesson.at(ui.room.value, [edge, ...order.filter(({ id }) => id !== edge.id)].map(({ http }) => http).filter(Boolean));
}

let pathOf = "";
let changed: { hops: string[]; at: number } = { hops: [], at: 0 };

function show(): void {
  if (room === null || room.room !== ui.room.value) return draw([]);
  fill(ui.stream, room.streams.map(({ stream }) => ({ value: stream, text: stream })), ui.stream.value || fragment.get("stream"));
  const stream = room.streams.find(({ stream }) => stream === ui.stream.value) ?? room.streams[0];
  if (!stream) {
    player.stop();
    notice("Nothing is on in this room.");
    return draw([]);
  }
  const name = `${encodeURIComponent(room.room)}/${encodeURIComponent(stream.stream)}`;
  const health = `/rooms/${encodeURIComponent(room.room)}`;
  // A programme whose catalog this edge does not hold yet plays as the commonest one.
  const codecs = stream.tracks.map(({ codec }) => codec).join(",") || "avc1.640028,mp4a.40.2";
  player.play(name, codecs, choice().map(({ id, http }) => (
    { id, url: api.withToken(`${http}/live/${name}.mp4`), health: api.withToken(http + health) })));
  if (ui.generation.textContent !== stream.generation) {
    if (pathOf === `${room.edge} ${name}`) journal.note(`The publisher is at ${stream.origin} now (generation ${stream.generation})`);
    ui.generation.textContent = stream.generation;
  }
  // Only what the edge in use tells is the way of what is seen; until then the last one stands.
  if (room.edge !== player.edge) return player.edge === null ? draw([]) : undefined;
  const path = stream.path ?? [];
  const now = Date.now();
  const change = history.now(now, path);
  if (change) {
    const before = hopsOf(change.before);
    changed = { hops: hopsOf(path).filter((hop) => !before.includes(hop)), at: now };
    if (pathOf === `${room.edge} ${name}`) journal.path(change);
    setTimeout(show, FADE_MS + 50);
  }
  pathOf = `${room.edge} ${name}`;
  draw(path);
}

function draw(path: Hop[]): void {
  const now = Date.now();
  const places = new Map<string, Place>();
  for (const node of topology?.nodes ?? edges.values()) {
    const known = places.get(node.region);
    places.set(node.region, { region: node.region, lat: node.lat, lon: node.lon, up: node.up && (known?.up ?? true) });
  }
  const taken = now - changed.at < FADE_MS ? changed.hops : [];
  map.show({ places: [...places.values()], path, left: history.fading(now), taken, down: downLinks() });
  const key = JSON.stringify(path);
  if (ui.path.dataset.key !== key) {
    const known = new Set([...ui.path.children].map((item) => (item as HTMLElement).dataset.node));
    ui.path.dataset.key = key;
    ui.path.replaceChildren(...path.map(({ node, region }) => {
      const item = document.createElement("li");
      item.dataset.region = region;
      item.dataset.node = node;
      if (known.size > 0 && !known.has(node)) item.className = "new";
      const name = document.createElement("small");
      name.textContent = node;
      item.append(`${region} `, name);
      return item;
    }));
    ui.path.dataset.regions = regionsOf(path).join(" ");
  }
  const oneWay = pathDelay(path);
  ui.pathDelay.textContent = oneWay === null ? "–" : `${Math.round(oneWay)} ms`;
}

/** Regions between which there are links and none is up. */
function downLinks(): string[] {
  if (!topology) return [];
  const region = new Map(topology.nodes.map((node) => [node.id, node.region]));
  const up = new Map<string, boolean>();
  for (const link of topology.links) {
    const [from, to] = [region.get(link.from), region.get(link.to)];
    if (!from || !to || from === to) continue;
    const hop = `${from}>${to}`;
    up.set(hop, link.up || (up.get(hop) ?? false));
  }
  return [...up].filter(([, is]) => !is).map(([hop]) => hop).sort();
}

/** Half the sum of the measured round trips; null where a link was not measured. */
function pathDelay(path: Hop[]): number | null {
  if (!topology || path.length < 2) return null;
  let sum = 0;
  for (let i = 1; i < path.length; i++) {
    const link = topology.links.find(({ from, to }) => from === path[i - 1]!.node && to === path[i]!.node);
    if (link?.rtt_ms == null) return null;
    sum += link.rtt_ms / 2;
  }
  return sum;
}

ui.unmute.addEventListener("click", () => {
  player.muted = !player.muted;
  ui.unmute.textContent = player.muted ? "Unmute" : "Mute";
});
let timer = 0;
async function loop(): Promise<void> {
  clearTimeout(timer);
  let trouble = "";
  try {
    await refresh();
  } catch (error) {
    // What is known goes on being used: a programme needs no controller.
    trouble = (error as Error).message;
  }
  if (!trouble && !ui.room.value) trouble = "No room is open.";
  if (!trouble && edges.size === 0) trouble = "No edge is up.";
  ui.status.textContent = trouble;
  ui.status.className = trouble ? "bad" : "";
  follow();
  show();
  timer = window.setTimeout(loop, REFRESH_MS);
}

async function hearSwitches(token: string): Promise<void> {
  for (;;) {
    await api.switches(token, (it) => journal.reason(it)).catch(() => { /* asked again */ });
    await new Promise((resolve) => setTimeout(resolve, REFRESH_MS));
  }
}

for (const select of [ui.room, ui.stream, ui.edge]) select.addEventListener("change", () => void loop());
if (onController && adminToken) void hearSwitches(adminToken);
void loop();
