// The page: one room, seen from one edge. Served by an edge (/classroom/ROOM) it knows that edge
// and its fellows; served by the controller (with the admin token in the fragment) it also knows
// all rooms and the measured links.

import * as api from "./api";
import { WorldMap, regionsOf, type Place } from "./map";
import { RoomMessages } from "./messages";
import { Player } from "./player";

const REFRESH_MS = 1_000;
const MAX_LINES = 200;

const el = <T extends Element>(id: string) => document.getElementById(id) as unknown as T;
const ui = {
  room: el<HTMLSelectElement>("room"), stream: el<HTMLSelectElement>("stream"), edge: el<HTMLSelectElement>("edge"),
  status: el<HTMLElement>("status"), video: el<HTMLVideoElement>("video"), notice: el<HTMLElement>("notice"),
  unmute: el<HTMLButtonElement>("unmute"), delay: el<HTMLElement>("delay"), buffer: el<HTMLElement>("buffer"),
  pathDelay: el<HTMLElement>("path-delay"), generation: el<HTMLElement>("generation"), path: el<HTMLOListElement>("path"),
  messages: el<HTMLUListElement>("messages"), compose: el<HTMLFormElement>("compose"), text: el<HTMLInputElement>("text"),
};

const fragment = new URLSearchParams(location.hash.slice(1));
const adminToken = fragment.get("token");
const classroom = /^\/classroom\/([^/]+)/.exec(location.pathname);
const fixedRoom = classroom ? decodeURIComponent(classroom[1]!) : null;
const onController = fixedRoom === null;

const map = new WorldMap(el<SVGSVGElement>("map"));
const player = new Player(ui.video, {
  delay: (endToEnd, buffer) => {
    ui.delay.textContent = `${Math.round(endToEnd)} ms`;
    ui.delay.dataset.ms = String(Math.round(endToEnd));
    ui.buffer.textContent = `${Math.round(buffer)} ms`;
  },
  notice: (text) => {
    ui.notice.textContent = text ?? "";
    ui.notice.hidden = text === null;
  },
});

let edges: api.EdgeInfo[] = [];
let topology: api.Topology | null = null;
let playing = "";
let chat: RoomMessages | null = null;
let chatRoom = "";

const selectedEdge = () => edges.find((edge) => edge.id === ui.edge.value) ?? null;

function fill(select: HTMLSelectElement, options: { value: string; text: string }[], wanted?: string | null): void {
  const key = JSON.stringify(options);
  if (select.dataset.options === key) return;
  const keep = wanted ?? select.value;
  select.replaceChildren(...options.map(({ value, text }) => new Option(text, value)));
  if (options.some(({ value }) => value === keep)) select.value = keep;
  select.dataset.options = key;
}

async function refresh(): Promise<void> {
  if (onController) {
    if (!adminToken) throw new Error("Open this page with the address that was printed: it carries the admin token.");
    topology = await api.topology(adminToken);
    edges = (topology.nodes as (api.NodeInfo & api.EdgeInfo)[]).filter((node) => node.role === "edge" && node.up);
    const rooms = await api.rooms(adminToken);
    fill(ui.room, rooms.map(({ room }) => ({ value: room, text: room })), ui.room.value || fragment.get("room"));
  } else {
    edges = await api.edges("");
    fill(ui.room, [{ value: fixedRoom, text: fixedRoom }]);
  }
  edges.sort((a, b) => a.id.localeCompare(b.id));
  const here = edges.find((edge) => edge.http && new URL(edge.http).host === location.host);
  fill(ui.edge, edges.map((edge) => ({ value: edge.id, text: `${edge.region} (${edge.city || edge.id})` })),
    ui.edge.value || fragment.get("edge") || farFrom(here)?.id);
  const edge = selectedEdge();
  if (!edge || !ui.room.value) {
    showPath([]);
    throw new Error(edge ? "No room is open." : "No edge is up.");
  }
  const room = await api.room(edge.http, ui.room.value);
  fill(ui.stream, room.streams.map(({ stream }) => ({ value: stream, text: stream })), ui.stream.value || fragment.get("stream"));
  watch(edge, room);
  talk(edge, ui.room.value);
}

/** On the controller's page: the sample's far end, so that the path is worth looking at. */
function farFrom(here: api.EdgeInfo | undefined): api.EdgeInfo | undefined {
  return here ?? edges.find((edge) => edge.region === "sg") ?? edges[0];
}

function watch(edge: api.EdgeInfo, room: api.RoomInfo): void {
  const stream = room.streams.find(({ stream }) => stream === ui.stream.value) ?? room.streams[0];
  if (!stream) {
    if (playing) player.play(null, "");
    playing = "";
    ui.notice.textContent = "Nothing is on in this room.";
    ui.notice.hidden = false;
    showPath([]);
    return;
  }
  const codecs = stream.tracks.map(({ codec }) => codec).join(",");
  const url = api.withToken(`${edge.http}/live/${encodeURIComponent(room.room)}/${encodeURIComponent(stream.stream)}.mp4`);
  // A programme whose catalog this edge does not hold yet plays as the commonest one.
  const wanted = codecs || "avc1.640028,mp4a.40.2";
  if (playing !== url) {
    playing = url;
    ui.delay.textContent = ui.buffer.textContent = "–";
    player.play(url, wanted);
  }
  ui.generation.textContent = stream.generation;
  showPath(stream.path ?? []);
}

function showPath(path: api.PathNode[]): void {
  const places = new Map<string, Place>();
  for (const node of topology?.nodes ?? edges.map((edge) => ({ ...edge, up: true }))) {
    const known = places.get(node.region);
    places.set(node.region, { region: node.region, lat: node.lat, lon: node.lon, up: node.up && (known?.up ?? true) });
  }
  map.show([...places.values()], path);
  const key = JSON.stringify(path);
  if (ui.path.dataset.key !== key) {
    ui.path.dataset.key = key;
    ui.path.replaceChildren(...path.map(({ node, region }) => {
      const item = document.createElement("li");
      item.dataset.region = region;
      item.dataset.node = node;
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

/** Half the sum of the measured round trips; null where a link was not measured. */
function pathDelay(path: api.PathNode[]): number | null {
  if (!topology || path.length < 2) return null;
  let sum = 0;
  for (let i = 1; i < path.length; i++) {
    const link = topology.links.find(({ from, to }) => from === path[i - 1]!.node && to === path[i]!.node);
    if (link?.rtt_ms == null) return null;
    sum += link.rtt_ms / 2;
  }
  return sum;
}

function talk(edge: api.EdgeInfo, room: string): void {
  const url = `${edge.http.replace(/^http/, "ws")}/rooms/${encodeURIComponent(room)}/messages`;
  if (chat && chatRoom === room) return chat.move(url);
  chat?.close();
  ui.messages.replaceChildren();
  chatRoom = room;
  chat = new RoomMessages(url, {
    event: ({ from, topic, body }) => {
      if (topic === "chat") line((body as { text?: string } | null)?.text ?? JSON.stringify(body), from);
    },
    note: (text) => line(text),
    connected: (member) => { ui.compose.dataset.member = member ?? ""; },
  });
}

function line(text: string, from?: string): void {
  const item = document.createElement("li");
  if (from) {
    const name = document.createElement("b");
    name.textContent = from;
    item.append(name, text);
  } else {
    item.className = "note";
    item.textContent = text;
  }
  ui.messages.append(item);
  while (ui.messages.childElementCount > MAX_LINES) ui.messages.firstElementChild?.remove();
  ui.messages.scrollTop = ui.messages.scrollHeight;
}

ui.unmute.addEventListener("click", () => {
  ui.video.muted = !ui.video.muted;
  ui.unmute.textContent = ui.video.muted ? "Unmute" : "Mute";
});
ui.compose.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = ui.text.value.trim();
  if (!text) return;
  if (chat?.say(text)) ui.text.value = "";
  else line("Not sent: too many messages are waiting for the room.");
});

let timer = 0;
async function loop(): Promise<void> {
  clearTimeout(timer);
  try {
    await refresh();
    ui.status.textContent = "";
    ui.status.className = "";
  } catch (error) {
    ui.status.textContent = (error as Error).message;
    ui.status.className = "bad";
  }
  timer = window.setTimeout(loop, REFRESH_MS);
}
for (const select of [ui.room, ui.stream, ui.edge]) select.addEventListener("change", () => void loop());
void loop();
