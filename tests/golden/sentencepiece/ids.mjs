// Asks llama.cpp (npm node-llama-cpp 3.21.1) for the ids of every text with every vocabulary: `ids.json`.
// Special tokens in a text are read as such, and none is added.
import { readFileSync, writeFileSync } from "node:fs";
import { getLlama } from "node-llama-cpp";

const texts = JSON.parse(readFileSync("texts.json", "utf8"));
const llama = await getLlama({ gpu: false, build: "never", logLevel: "error" });
const all = {};
for (const name of ["llama", "gemma", "phi3", "unigram", "t5"]) {
    const model = await llama.loadModel({ modelPath: `${name}.gguf`, vocabOnly: true });
    all[name] = texts.map((text) => Array.from(model.tokenize(text, true)));
    await model.dispose();
}
const rows = Object.entries(all).map(([name, ids]) => `${JSON.stringify(name)}: [\n${ids.map((row) => JSON.stringify(row)).join(",\n")}\n]`);
writeFileSync("ids.json", `{\n${rows.join(",\n")}\n}\n`);
process.exit(0);
