// Just enough of ISO/IEC 14496-12 to cut a live fragmented MP4 into whole boxes and to read the
// origin's clock out of it.

export interface Box { type: string; data: Uint8Array }

/** Largest box we take: an edge never sends a frame above 1 MB. */
const MAX_BOX = 8 << 20;

/** Cuts a byte stream into top-level boxes, whatever the chunks. */
export class BoxReader {
  private rest = new Uint8Array(0);

  push(chunk: Uint8Array): Box[] {
    if (this.rest.length > 0) {
      const joined = new Uint8Array(this.rest.length + chunk.length);
      joined.set(this.rest);
      joined.set(chunk, this.rest.length);
      chunk = joined;
    }
    const boxes: Box[] = [];
    let at = 0;
    while (chunk.length - at >= 8) {
      const size = view(chunk).getUint32(at);
      if (size < 8 || size > MAX_BOX) throw new Error(`not a box of a live stream: size ${size}`);
      if (chunk.length - at < size) break;
      boxes.push({ type: fourcc(chunk, at + 4), data: chunk.subarray(at, at + size) });
      at += size;
    }
    this.rest = chunk.slice(at);
    return boxes;
  }
}

/** The boxes inside `data` from `start`. */
export function* children(data: Uint8Array, start = 8): Generator<Box> {
  let at = start;
  while (data.length - at >= 8) {
    const size = view(data).getUint32(at);
    if (size < 8 || data.length - at < size) return;
    yield { type: fourcc(data, at + 4), data: data.subarray(at, at + size) };
    at += size;
  }
}

/** Track id → units a second, from a `moov`. */
export function timescales(moov: Uint8Array): Map<number, number> {
  const scales = new Map<number, number>();
  for (const trak of children(moov)) {
    if (trak.type !== "trak") continue;
    let id = 0;
    let scale = 0;
    for (const box of children(trak.data)) {
      if (box.type === "tkhd") id = view(box.data).getUint32(box.data[8] === 1 ? 28 : 20);
      if (box.type !== "mdia") continue;
      for (const inner of children(box.data)) {
        if (inner.type === "mdhd") scale = view(inner.data).getUint32(inner.data[8] === 1 ? 28 : 20);
      }
    }
    if (id && scale) scales.set(id, scale);
  }
  return scales;
}

/** The decode time of a `moof`'s first track, in track units (§8.8.12); null where it tells none. */
export function decodeTime(moof: Uint8Array): { track: number; media: number } | null {
  for (const traf of children(moof)) {
    if (traf.type !== "traf") continue;
    let track = 0;
    for (const { type, data } of children(traf.data)) {
      if (type === "tfhd") track = view(data).getUint32(12);
      if (type !== "tfdt") continue;
      return { track, media: data[8] === 1 ? Number(view(data).getBigUint64(12)) : view(data).getUint32(12) };
    }
  }
  return null;
}

/** Seconds between 1900 (NTP) and 1970 (Unix): RFC 868. */
const NTP_TO_UNIX = 2_208_988_800;

/** A `prft` box (§8.16.5): the origin's wall clock in ms of one media time in track units. */
export function producerTime(prft: Uint8Array): { track: number; wallMs: number; media: number } {
  const v = view(prft);
  const version = prft[8]!;
  const seconds = v.getUint32(16);
  const fraction = v.getUint32(20);
  return {
    track: v.getUint32(12),
    wallMs: (seconds - NTP_TO_UNIX + fraction / 2 ** 32) * 1000,
    media: version === 0 ? v.getUint32(24) : Number(v.getBigUint64(24)),
  };
}

function fourcc(data: Uint8Array, at: number): string {
  return String.fromCharCode(data[at]!, data[at + 1]!, data[at + 2]!, data[at + 3]!);
}

function view(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}
