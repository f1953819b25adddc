// Reads sequences with llama.cpp, as the npm package node-llama-cpp carries it, and says how likely every token is after each.
//
// `node llama.mjs DIRECTORY < jobs.json`: DIRECTORY holds node_modules; jobs are `{"model", "adapter" or null, "rows"}`, rows lists
// of token ids. Answers with a list a job, of a list a row, of a list a position, of the probability of each token. Keys and
// values are kept in f32, so that only the products round.
import path from "node:path";
import process from "node:process";
import {pathToFileURL} from "node:url";

const entry = path.join(process.argv[2], "node_modules", "node-llama-cpp", "dist", "index.js");
const {getLlama} = await import(pathToFileURL(entry).href);

async function text(stream) {
    const parts = [];
    for await (const part of stream)
        parts.push(part);
    return Buffer.concat(parts).toString("utf8");
}

const jobs = JSON.parse(await text(process.stdin));
const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
// Everything is kept: no candidate is left out, nothing is scaled.
const asked = {probabilities: true, options: {temperature: 1, topK: 0, topP: 1, minP: 0, seed: 1}};

async function read(model, adapter, row) {
    const context = await model.createContext({
        contextSize: Math.max(64, row.length + 8),
        batchSize: Math.max(64, row.length + 8),
        flashAttention: false,
        experimentalKvCacheKeyType: "F32",
        experimentalKvCacheValueType: "F32",
        ...(adapter == null ? {} : {lora: {adapters: [{filePath: adapter, scale: 1}]}})
    });
    const sequence = context.getSequence();
    const told = await sequence.controlledEvaluate(row.map((id) => [id, {generateNext: asked}]));
    const positions = told.map((position) => {
        const of = [];
        for (const [token, probability] of position.next.probabilities)
            of[token] = probability;
        return of;
    });
    await context.dispose();
    return positions;
}

const answers = [];
for (const job of jobs) {
    const model = await llama.loadModel({modelPath: job.model});
    const rows = [];
    for (const row of job.rows)
        rows.push(await read(model, job.adapter, row));
    answers.push(rows);
    await model.dispose();
}
process.stdout.write(JSON.stringify(answers), () => process.exit(0));
