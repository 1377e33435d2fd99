// The licences of the packages whose code is in the bundles.
import { existsSync, readFileSync, readdirSync } from "node:fs";

/** The text of all of them, for the files that went into a build. */
export function licences(inputs) {
  const packages = new Set();
  for (const input of inputs) {
    const found = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input);
    if (found) packages.add(found[1]);
  }
  const texts = [...packages].sort().map(licence);
  return `The page contains code of these packages.\n\n${texts.join("\n")}`;
}

function licence(name) {
  const folder = `node_modules/${name}`;
  const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file && license !== "Apache-2.0") throw new Error(`${name} has no licence file`);
  const text = file ? readFileSync(`${folder}/${file}`, "utf8").trim() : apacheNotice(name);
  const notice = existsSync(`${folder}/NOTICE`) ? `\n\n${readFileSync(`${folder}/NOTICE`, "utf8").trim()}` : "";
  return `${"-".repeat(80)}\n${name} ${version} (${license})\n\n${text}${notice}\n`;
}

function apacheNotice(name) {
  return `${name} is licensed under the Apache License, Version 2.0:\nhttps://www.apache.org/licenses/LICENSE-2.0`;
}
