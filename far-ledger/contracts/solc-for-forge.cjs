#!/usr/bin/env node
// The compiler of the npm package `solc` behind the command line that forge expects of a native one, so that forge needs
// no download of its own.
"use strict";
const fs = require("fs");
const solc = require("solc");

const args = process.argv.slice(2);
if (args.includes("--version")) {
  const version = solc.version().replace("Emscripten.clang", "Linux.g++");
  console.log(`solc, the solidity compiler commandline interface\nVersion: ${version}`);
} else if (args.includes("--standard-json")) {
  process.stdout.write(solc.compile(fs.readFileSync(0, "utf8")));
} else {
  console.error(`solc-for-forge: unknown arguments ${args.join(" ")}`);
  process.exit(2);
}
