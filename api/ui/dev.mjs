// Serves the page from its sources and forwards everything else to a server:
//   npm run dev -- http://127.0.0.1:7070 7080
import { createReadStream, existsSync } from "node:fs";
import { createServer, request } from "node:http";
import { context } from "esbuild";
import { options } from "./bundles.mjs";

const [target = "http://127.0.0.1:7070", port = "7080"] = process.argv.slice(2);
const server = new URL(target);
const KINDS = { html: "text/html; charset=utf-8", js: "text/javascript", css: "text/css", svg: "image/svg+xml" };
/** As `api/src/ui.rs` sends it. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
  "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const watching = await context({ ...options, outdir: ".dev", minify: false, sourcemap: "inline", logLevel: "info" });
await watching.watch();

createServer((asked, answer) => {
  const path = new URL(asked.url, target).pathname;
  const name = path === "/" ? "index.html" : path.startsWith("/ui/") ? path.slice(4) : undefined;
  const file = name && [`.dev/${name}`, name].find((each) => /^[\w./-]+$/.test(each) && existsSync(each));
  if (file && name && !name.includes("/")) {
    answer.writeHead(200, {
      "Content-Type": KINDS[name.split(".").pop()] ?? "text/plain",
      "Content-Security-Policy": POLICY,
      "Cache-Control": "no-store",
    });
    createReadStream(file).pipe(answer);
    return;
  }
  const headers = { ...asked.headers, host: server.host };
  delete headers.origin;
  const forwarded = request(new URL(asked.url, target), { method: asked.method, headers }, (got) => {
    answer.writeHead(got.statusCode, got.headers);
    got.pipe(answer);
  });
  forwarded.on("error", (error) => answer.writeHead(502).end(JSON.stringify({ error: String(error) })));
  answer.on("close", () => forwarded.destroy());
  asked.pipe(forwarded);
}).listen(Number(port), "127.0.0.1", () => console.log(`http://127.0.0.1:${port} with ${target}`));
