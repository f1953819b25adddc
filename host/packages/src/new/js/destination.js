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

export const destination = explained({
  // Called once, before anything else; `rest` is the text after `{{name}}:`.
  open(rest) {
    return {
      identity: { name: "{{name}}", detail: rest },
      // Origins that it will talk to, in grant syntax, such as `http:https://example.com`.
      contacts: [],
      maxBytes: undefined,
    };
  },

  // What `push` would do, without doing it.
  preview(pack, _options) {
    return [{ text: `send ${pack.fileName} (${pack.size} bytes)` }];
  },

  // Sends the pack: open it with `openInput` of artifacts, send it with `sendFile` of upload.
  push(_pack, _options) {
    throw { tag: "unsupported", val: "`{{name}}` does not push yet" };
  },
});
