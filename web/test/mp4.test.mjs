import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./module.mjs";

const { BoxReader, children, decodeTime, producerTime, timescales } =
  await load("mp4.ts");

function box(type, ...parts) {
  const body = Buffer.concat(parts.map((part) => Buffer.from(part)));
  const head = Buffer.alloc(8);
  head.writeUInt32BE(body.length + 8);
  head.write(type, 4, "latin1");
  return Buffer.concat([head, body]);
}

test("boxes come out whole, whatever the chunks", () => {
  const stream = Buffer.concat([box("ftyp", [1, 2]), box("moof"), box("mdat", Array(300).fill(7))]);
  for (let size = 1; size <= stream.length; size++) {
    const reader = new BoxReader();
    const boxes = [];
    for (let at = 0; at < stream.length; at += size) boxes.push(...reader.push(new Uint8Array(stream.subarray(at, at + size))));
    assert.deepEqual(boxes.map(({ type }) => type), ["ftyp", "moof", "mdat"]);
    assert.equal(Buffer.concat(boxes.map(({ data }) => data)).compare(stream), 0);
  }
});

test("a size no box can have is refused", () => {
  assert.throws(() => new BoxReader().push(new Uint8Array([0, 0, 0, 4, 1, 2, 3, 4])), /size 4/);
  assert.throws(() => new BoxReader().push(new Uint8Array([255, 0, 0, 0, 1, 2, 3, 4])), /size/);
});

test("the origin's clock is read from prft, versions 0 and 1", () => {
  // 2026-01-01T00:00:00.500Z in NTP format (RFC 5905 §6): seconds since 1900, then fractions.
  const wall = Date.UTC(2026, 0, 1, 0, 0, 0, 500);
  const ntp = Buffer.alloc(8);
  ntp.writeUInt32BE(Math.floor(wall / 1000) + 2_208_988_800);
  ntp.writeUInt32BE(2 ** 31, 4);
  const v0 = box("prft", [0, 0, 0, 0], [0, 0, 0, 2], ntp, [0, 0, 0, 9]);
  assert.deepEqual(producerTime(new Uint8Array(v0)), { track: 2, wallMs: wall, media: 9 });
  const v1 = box("prft", [1, 0, 0, 0], [0, 0, 0, 1], ntp, [0, 0, 0, 1, 0, 0, 0, 0]);
  assert.deepEqual(producerTime(new Uint8Array(v1)), { track: 1, wallMs: wall, media: 2 ** 32 });
});

test("timescales are read from moov", () => {
  const tkhd = (id) => box("tkhd", [0, 0, 0, 0], Buffer.alloc(8), [0, 0, 0, id]);
  const mdhd = box("mdhd", [0, 0, 0, 0], Buffer.alloc(8), [0, 1, 95, 144]);
  const moov = box("moov", box("mvhd", Buffer.alloc(4)), box("trak", tkhd(1), box("mdia", mdhd)), box("trak", tkhd(2)));
  assert.deepEqual([...timescales(new Uint8Array(moov))], [[1, 90_000]]);
  assert.deepEqual([...children(new Uint8Array(moov))].map(({ type }) => type), ["mvhd", "trak", "trak"]);
});

test("the decode time is read from moof, versions 0 and 1", () => {
  const tfhd = box("tfhd", [0, 2, 0, 0], [0, 0, 0, 2]);
  const moof = (...tfdt) => new Uint8Array(box("moof", box("mfhd", Buffer.alloc(8)), box("traf", tfhd, box("tfdt", ...tfdt))));
  assert.deepEqual(decodeTime(moof([0, 0, 0, 0], [0, 0, 1, 0])), { track: 2, media: 256 });
  assert.deepEqual(decodeTime(moof([1, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0])), { track: 2, media: 2 ** 32 });
  assert.equal(decodeTime(new Uint8Array(box("moof"))), null);
});
