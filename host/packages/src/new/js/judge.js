// {{does}}.

// An exception becomes `failed` with its stack; an error of the contract, which has a tag, passes as it is.
function explained(functions) {
  const told = (call) => (...values) => {
    try {
      return call(...values);
    } catch (error) {
      if (error && error.tag) throw error;
      throw { tag: "failed", val: `${error}\n${(error && error.stack) || ""}`.trimEnd() };
    }
  };
  return Object.fromEntries(Object.entries(functions).map(([name, call]) => [name, told(call)]));
}

export const judge = explained({
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
