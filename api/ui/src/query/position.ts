// Where in a query an error is: the server names a line and a column, or the word that it does not know.

/** A part of a text, in UTF-16 units as editors count them. */
export interface Place {
  from: number;
  to: number;
}

/** The place that a message names, if it names one. */
export function placeOf(message: string, text: string): Place | undefined {
  const promql = /\b(\d+):(\d+): parse error/.exec(message);
  if (promql) return word(text, inBytes(text, Number(promql[1]), Number(promql[2])));
  const sql = /Line: (\d+), Column:? (\d+)/i.exec(message);
  if (sql) return word(text, inChars(text, Number(sql[1]), Number(sql[2])));
  const influxql = /at line (\d+), char (\d+)/.exec(message);
  if (influxql) return word(text, inChars(text, Number(influxql[1]), Number(influxql[2])));
  return named(message, text);
}

/** Lines and columns are counted from 1. */
function lineStart(text: string, line: number): number {
  let start = 0;
  for (let i = 1; i < line; i += 1) {
    const end = text.indexOf("\n", start);
    if (end < 0) return text.length;
    start = end + 1;
  }
  return start;
}

function inChars(text: string, line: number, column: number): number {
  const start = lineStart(text, line);
  const before = [...text.slice(start)].slice(0, Math.max(0, column - 1)).join("");
  return Math.min(text.length, start + before.length);
}

function inBytes(text: string, line: number, column: number): number {
  const start = lineStart(text, line);
  const bytes = new TextEncoder().encode(text.slice(start)).slice(0, Math.max(0, column - 1));
  return Math.min(text.length, start + new TextDecoder().decode(bytes).length);
}

/** The word or the character at an offset; at the end, the last character. */
function word(text: string, at: number): Place {
  const found = /^[\w:]+/.exec(text.slice(at));
  if (found) return { from: at, to: at + found[0].length };
  if (at < text.length) return { from: at, to: at + 1 };
  const end = text.trimEnd().length;
  return { from: Math.max(0, end - 1), to: Math.max(end, 1) };
}

const NAMES = [
  /No field named (?:[\w"]+\.)*"?(\w+)"?/,
  /(?:table|column|function|measurement|database|metric) '?"?(?:[\w"]+\.)*"?([\w-]+)"?'? (?:not found|does not exist)/i,
  /(?:Invalid|unknown) function '?"?(\w+)/i,
];

function named(message: string, text: string): Place | undefined {
  for (const pattern of NAMES) {
    const name = pattern.exec(message)?.[1];
    if (name === undefined) continue;
    const found = new RegExp(`(?<![\\w])${name.replace(/[^\w]/g, "\\$&")}(?![\\w])`, "i").exec(text);
    if (found) return { from: found.index, to: found.index + name.length };
  }
  return undefined;
}

/** The line with the place, and a line of carets under it. */
export function quote(text: string, { from, to }: Place): { line: string; carets: string } {
  const start = text.lastIndexOf("\n", from - 1) + 1;
  const end = text.indexOf("\n", from);
  const line = text.slice(start, end < 0 ? text.length : end);
  const width = Math.max(1, Math.min(to, start + line.length) - from);
  return { line, carets: " ".repeat(from - start) + "^".repeat(width) };
}
