// {{does}}.

import { plugin } from "./checked.js";

export const teacher = plugin({
  // Called once for each worker, before anything else.
  open(argument) {
    if (argument !== "") {
      throw { tag: "invalid-input", val: `\`{{name}}\` takes no argument, found \`${argument}\`` };
    }
    return {
      identity: { name: "{{name}}", detail: undefined },
      supportsSeed: false,
      maxConcurrency: 1,
    };
  },

  // One answer to one prompt: `wit/teacher.wit` says what is asked and what is expected.
  complete(request) {
    const pairs = sentences(passage(request.user)).map(pair);
    return {
      text: `[${pairs.slice(0, count(request.user)).join(", ")}]`,
      truncated: false,
      usage: { promptTokens: 0, completionTokens: 0, requests: 1 },
    };
  },
});

// What stands between the lines `[CODE]` and `[/CODE]`.
function passage(asked) {
  const found = asked.match(/^\[(.+)\]\n([^]*?)\n\[\/\1\]/m);
  return found ? found[2] : asked;
}

// How many pairs are wanted: the first number of the question.
function count(asked) {
  const found = asked.match(/[0-9]{1,9}/);
  return found ? Number(found[0]) : 1;
}

// The words of each sentence that has a beginning and an end, headings left out.
function sentences(text) {
  const found = text.replace(/^#.*$/gm, "").match(/[^.!?]+[.!?]?/g) || [];
  return found.map((sentence) => sentence.split(/\s+/).filter(Boolean)).filter((words) => words.length >= 4);
}

// One pair, as an object in JSON.
function pair(words) {
  const start = words.slice(0, words.length / 2).join(" ");
  const question = `Complete the sentence: ${start} …`;
  return `{"question": ${JSON.stringify(question)}, "answer": ${JSON.stringify(words.join(" "))}}`;
}
