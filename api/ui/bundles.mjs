// What is bundled into what; shared by build.mjs and dev.mjs.

/** The editor is a file of its own, which the page loads when it is idle. */
const editorApart = {
  name: "editor-apart",
  setup(build) {
    build.onResolve({ filter: /\/editor\.js$/ }, (found) => ({ path: found.path, external: true }));
  },
};

/** Options of esbuild. File names are fixed, because `api/src/ui.rs` names them. */
export const options = {
  entryPoints: {
    page: "src/main.tsx",
    editor: "src/editor/editor.ts",
    worker: "src/worker/worker.ts",
    style: "src/style/style.css",
  },
  bundle: true,
  format: "esm",
  target: ["chrome109", "firefox115", "safari16.4"],
  jsx: "automatic",
  jsxImportSource: "preact",
  outdir: "dist",
  minify: true,
  charset: "utf8",
  legalComments: "none",
  metafile: true,
  plugins: [editorApart],
  alias: { "lru-cache": "./src/editor/no_cache.ts" },
  logLevel: "warning",
};

/** Files that are served as they are. */
export const copied = ["index.html", "icon.svg"];
