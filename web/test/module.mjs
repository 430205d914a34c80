// A module of the page for node's test runner.
import { build } from "esbuild";

export async function load(name) {
  const source = new URL(`../src/${name}`, import.meta.url).pathname;
  const { outputFiles } = await build({ entryPoints: [source], bundle: true, format: "esm", write: false });
  return import(`data:text/javascript,${encodeURIComponent(outputFiles[0].text)}`);
}
