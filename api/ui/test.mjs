// Runs the tests beside the sources: src/**/*.test.ts.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { build } from "esbuild";

const outdir = mkdtempSync(join(tmpdir(), "tidelake-ui-"));
const found = (folder, end) =>
  readdirSync(folder, { recursive: true })
    .map(String)
    .filter((file) => file.endsWith(end))
    .map((file) => join(folder, file));
await build({
  entryPoints: found("src", ".test.ts"),
  outdir,
  bundle: true,
  format: "esm",
  platform: "node",
  logLevel: "warning",
  outExtension: { ".js": ".mjs" },
});
const { status } = spawnSync(process.execPath, ["--test", ...found(outdir, ".mjs")], {
  stdio: "inherit",
  env: { ...process.env, TZ: "Europe/Berlin" },
});
rmSync(outdir, { recursive: true });
process.exitCode = status ?? 1;
