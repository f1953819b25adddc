// {{does}}.

import { plugin } from "./checked.js";

export const judge = plugin({
  // Called once, before anything else.
  open(argument) {
    if (argument !== "") {
      throw { tag: "invalid-input", val: `\`{{name}}\` takes no argument, found \`${argument}\`` };
    }
    return {
      identity: { name: "{{name}}", detail: undefined },
      mode: "pointwise",
      suggestedThreshold: 1,
      deterministic: true,
      maxBatch: 64,
    };
  },

  // One verdict per item, one score per candidate; higher is better.
  score(items) {
    const words = (text) => text.split(/\s+/u).filter((word) => word !== "").length;
    return items.map((item) => ({
      scores: item.candidates.map((text) => -words(text)),
      reasoning: undefined,
    }));
  },
});
