// {{does}}.

import { plugin } from "./checked.js";

const DOCUMENT = `---
dlm_version: 15
base_model: smollm2-135m
---

# A first document

::instruction::
### Q
What is this?

### A
A template.
`;

const FIRST = {
  name: "first",
  title: "A first document",
  summary: "One question and its answer",
  tags: [],
  recommendedBase: "smollm2-135m",
  expectedSteps: undefined,
  expectedDuration: [],
  samplePrompts: ["What is this?"],
  revision: "1",
  license: undefined,
};

export const templates = plugin({
  // Called once, before anything else; `location` is where the user's settings say that this source lies.
  open(_location) {
    return { identity: { name: "{{name}}", detail: undefined }, cacheSeconds: 0 };
  },

  // The templates, or those that fit a query.
  list(query) {
    return [FIRST].filter((meta) => query == null || meta.name.includes(query));
  },

  // One template with its files.
  fetch(name) {
    if (name !== "first") {
      throw { tag: "not-found", val: `\`{{name}}\` has no template \`${name}\`` };
    }
    return { meta: FIRST, document: DOCUMENT, files: [] };
  },
});
