// The clients of npm, as shipped: `openai`, `@langchain/openai`, `ollama`, `@huggingface/inference`, `cohere-ai`.
//
//     node clients.mjs ADDRESS VECTORS.json
//
// VECTORS.json: {texts, vectors, queries, short (64 dimensions), of_lines (of the texts with blanks for line breaks)}, each
// vector in base64; clients.mjs stands beside a folder node_modules with the packages. test_node.py makes both.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

import { InferenceClient } from "@huggingface/inference";
import { OpenAIEmbeddings } from "@langchain/openai";
import { CohereClientV2 } from "cohere-ai";
import { Ollama } from "ollama";
import OpenAI from "openai";

const [address, path] = process.argv.slice(2);
const { texts, vectors, queries, short, of_lines } = JSON.parse(readFileSync(path, "utf8"));
const bits = (vector) => Buffer.from(new Float32Array(vector).buffer).toString("base64");
const equal = (found, wanted) => assert.deepEqual(found.map(bits), wanted);

const tests = {
  async "openai: base64 by default"() {
    const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: "EMPTY" });
    const answer = await client.embeddings.create({ model: "text-embedding-3-small", input: texts });
    equal(answer.data.map((item) => item.embedding), vectors);
    const one = await client.embeddings.create({ model: "builtin", input: texts[0] });
    equal(one.data.map((item) => item.embedding), vectors.slice(0, 1));
  },
  async "openai: floats, dimensions, names"() {
    const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: "EMPTY" });
    const floats = await client.embeddings.create({ model: "builtin", input: texts, dimensions: 64, encoding_format: "float" });
    equal(floats.data.map((item) => item.embedding), short);
    const query = await client.embeddings.create({ model: "builtin:query", input: texts });
    equal(query.data.map((item) => item.embedding), queries);
    const typed = await client.embeddings.create({ model: "builtin", input: texts, input_type: "query" });
    equal(typed.data.map((item) => item.embedding), queries);
  },
  async "openai: models and errors"() {
    const client = new OpenAI({ baseURL: `${address}/v1`, apiKey: "EMPTY" });
    assert.equal((await client.models.list()).data[0].id, "builtin");
    await assert.rejects(client.embeddings.create({ model: "builtin", input: ["a", ""] }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, "input[1]");
      return true;
    });
  },
  async "@langchain/openai"() {
    const embeddings = new OpenAIEmbeddings({ model: "builtin", apiKey: "EMPTY", configuration: { baseURL: `${address}/v1` } });
    equal(await embeddings.embedDocuments(texts), of_lines);
    equal([await embeddings.embedQuery(texts[0])], vectors.slice(0, 1));
  },
  async "ollama"() {
    const client = new Ollama({ host: address });
    equal((await client.embed({ model: "builtin", input: texts })).embeddings, vectors);
    equal([(await client.embeddings({ model: "builtin:latest", prompt: texts[0] })).embedding], vectors.slice(0, 1));
    assert.match((await client.list()).models[0].name, /^builtin(:latest)?$/);
    assert.ok((await client.show({ model: "builtin" })).capabilities.includes("embedding"));
    await assert.rejects(client.embed({ model: "builtin", input: "x", dimensions: 7 }), { status_code: 400 });
  },
  async "@huggingface/inference"() {
    const client = new InferenceClient().endpoint(address);
    equal(await client.featureExtraction({ inputs: texts }), vectors);
    equal(await client.featureExtraction({ inputs: texts, prompt_name: "query" }), queries);
  },
  async "cohere-ai"() {
    const client = new CohereClientV2({ token: "EMPTY", baseUrl: address });
    const options = { model: "embed-v4.0", inputType: "search_query", embeddingTypes: ["float", "int8"], texts };
    const answer = await client.embed(options);
    equal(answer.embeddings.float, queries);
    assert.ok(answer.embeddings.int8.every((codes) => codes.every(Number.isInteger)));
  },
};

let failed = 0;
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    console.log(`passed: ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED: ${name}\n${error.stack}`);
  }
}
process.exit(failed ? 1 : 0);
