// Builds dist/ from src/: the files that api/src/ui.rs embeds. The same sources give the same bytes.
import { copyFileSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { copied, options } from "./bundles.mjs";
import { licences } from "./licences.mjs";

/** Most bytes of the files after gzip: what the page needs at first, and the editor. */
const LIMITS = { page: 90 * 1024, editor: 160 * 1024 };

rmSync("dist", { recursive: true, force: true });
const { metafile } = await build(options);
for (const file of copied) copyFileSync(file, `dist/${file}`);
writeFileSync("dist/licences.txt", licences(Object.keys(metafile.inputs)));

const size = (file) => gzipSync(readFileSync(`dist/${file}`)).length;
const sizes = {
  page: ["index.html", "page.js", "style.css", "worker.js"].reduce((sum, file) => sum + size(file), 0),
  editor: size("editor.js"),
};
for (const [name, bytes] of Object.entries(sizes)) {
  console.log(`${name}: ${(bytes / 1024).toFixed(1)} KiB gzipped`);
  if (bytes > LIMITS[name]) {
    console.error(`${name} is larger than ${LIMITS[name] / 1024} KiB`);
    process.exitCode = 1;
  }
}
