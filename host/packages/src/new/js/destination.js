// {{does}}.

import { plugin } from "./checked.js";

export const destination = plugin({
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
