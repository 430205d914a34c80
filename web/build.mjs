// Builds dist/index.html: one file with the style, the code and the map inside, so that a node
// can embed it and serve it under any path. The output depends on nothing but the sources and
// the locked packages: the same input gives the same bytes.
import { build } from "esbuild";
import { geoEquirectangular, geoPath } from "d3-geo";
import { feature } from "topojson-client";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";

const here = new URL(".", import.meta.url);
const require = createRequire(import.meta.url);

// One unit a degree, longitude -180..180 to x 0..360, latitude 90..-90 to y 0..180.
function land() {
  const atlas = require("world-atlas/land-110m.json");
  const shape = feature(atlas, atlas.objects.land);
  const projection = geoEquirectangular().scale(180 / Math.PI).translate([180, 90]).precision(1);
  return geoPath(projection).digits(1)(shape);
}

const bundle = await build({
  entryPoints: [new URL("src/main.ts", here).pathname],
  bundle: true,
  format: "iife",
  target: "es2022",
  minify: true,
  charset: "utf8",
  legalComments: "none",
  define: { LAND_PATH: JSON.stringify(land()) },
  write: false,
});
const code = bundle.outputFiles[0].text.trim().replaceAll("</script", "<\\/script");
const style = (await build({
  entryPoints: [new URL("src/style.css", here).pathname],
  minify: true,
  write: false,
})).outputFiles[0].text.trim();

const html = (await readFile(new URL("src/index.html", here), "utf8"))
  .replace("/*STYLE*/", () => style)
  .replace("/*CODE*/", () => code);
await mkdir(new URL("dist/", here), { recursive: true });
await writeFile(new URL("dist/index.html", here), html);
