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

export const teacher = explained({
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

  // One answer to one prompt.
  complete(request) {
    return {
      text: `You asked: ${request.user}`,
      truncated: false,
      usage: { promptTokens: 0, completionTokens: 0, requests: 1 },
    };
  },
});
