// {{does}}.

import { plugin } from "./checked.js";
import { write } from "dlm:plugin/output@1.0.0";

const NOTE = "NOTE.txt";

// The UTF-8 bytes of a text; QuickJS has no TextEncoder.
function bytes(text) {
  return Uint8Array.from(unescape(encodeURIComponent(text)), (unit) => unit.charCodeAt(0));
}

export const target = plugin({
  // Called once, before anything else.
  open(argument) {
    if (argument !== "") {
      throw { tag: "invalid-input", val: `\`{{name}}\` takes no argument, found \`${argument}\`` };
    }
    return {
      identity: { name: "{{name}}", detail: undefined },
      accepts: ["gguf"],
      platforms: [],
      programs: [],
    };
  },

  // Writes the files of the export.
  prepare(plan) {
    write(NOTE, bytes(`${plan.name} at ${plan.quant}\n`), false);
    return {
      files: [NOTE],
      entry: undefined,
      launch: undefined,
      smoke: { tag: "skip", val: "there is nothing to start" },
      installPreview: [],
      usage: [`read ${NOTE}`],
    };
  },

  // Registers the result with the runtime; this one has no register.
  install(_plan) {
    return undefined;
  },

  // Asks the started result; `prepare` said that there is nothing to start.
  smoke(_plan, _endpoint) {
    throw { tag: "unsupported", val: "there is nothing to start" };
  },
});
