// Compiles src/, or the folders it is given, and writes out/<Contract>.json with ABI and bytecode, which
// `far-mesh payments deploy` reads.
import { readFileSync, readdirSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const root = dirname(fileURLToPath(import.meta.url));
const read = (path) => readFileSync(join(root, path), "utf8");

const setting = (name) => {
  const found = read("foundry.toml").match(new RegExp(`^${name} = "?([^"\\n]+)"?$`, "m"));
  if (!found) throw new Error(`foundry.toml names no ${name}`);
  return found[1];
};
const folders = process.argv.length > 2 ? process.argv.slice(2) : ["src"];
const files = folders.flatMap((folder) => readdirSync(join(root, folder)).map((file) => `${folder}/${file}`));
const sources = Object.fromEntries(files.map((file) => [file, { content: read(file) }]));
const input = {
  language: "Solidity",
  sources,
  settings: {
    optimizer: { enabled: true, runs: Number(setting("optimizer_runs")) },
    evmVersion: setting("evm_version"),
    metadata: { bytecodeHash: setting("bytecode_hash") },
    outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
  },
};
const found = (path) => {
  try {
    return { contents: read(join("node_modules", path)) };
  } catch (error) {
    return { error: `${path}: ${error.message}; run npm ci first` };
  }
};
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: found }));
for (const message of output.errors ?? []) console.error(message.formattedMessage);
// A warning stops the build too: there is none to be used to.
if (output.errors?.length) process.exit(1);

mkdirSync(join(root, "out"), { recursive: true });
for (const contracts of files.map((file) => output.contracts[file])) {
  for (const [name, { abi, evm }] of Object.entries(contracts)) {
    const artifact = { contract: name, compiler: solc.version(), abi, bytecode: `0x${evm.bytecode.object}` };
    writeFileSync(join(root, "out", `${name}.json`), `${JSON.stringify(artifact)}\n`);
    console.log(`${name}: ${evm.deployedBytecode.object.length / 2} bytes`);
  }
}
