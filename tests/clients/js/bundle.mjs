// fal's client as one ES module for browsers: its files as they are, and a `require` to find them.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { given, tell } from "./client.mjs";

const files = new Map(); // path -> [source, {name: path}]

function add(path) {
  if (files.has(path)) return;
  const text = readFileSync(path, "utf8");
  const names = {};
  files.set(path, [path.endsWith(".json") ? `module.exports = ${text}` : text, names]);
  const { resolve } = createRequire(path);
  for (const [, name] of text.matchAll(/\brequire\("([^"]+)"\)/g)) add((names[name] = resolve(name)));
}

const entry = createRequire(import.meta.url).resolve("@fal-ai/client");
add(entry);
const functions = [...files].map(
  ([path, [text, names]]) =>
    `${JSON.stringify(path)}: [(module, exports, require) => {\n${text}\n}, ${JSON.stringify(names)}]`,
);
tell(`const files = {\n${functions.join(",\n")}\n};
const loaded = {};
function load(path) {
  if (!loaded[path]) {
    const [run, names] = files[path];
    loaded[path] = { exports: {} };
    run(loaded[path], loaded[path].exports, (name) => load(names[name]));
  }
  return loaded[path].exports;
}
export const { ${given.names.join(", ")} } = load(${JSON.stringify(entry)});
`);
