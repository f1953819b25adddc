// Holds what each function returns against the contract, so that a slip is named with its place. `dlm plugin new` wrote this file
// from `wit/`; nothing in it is yours to change.

const CONTRACT = {{shapes}};

// The functions of a plugin as the contract wants them. An exception becomes `failed` with its stack, and so does a function that is
// missing or a result of another form. An error of the contract, thrown by the plugin or by the host, passes as it is.
export function plugin(functions) {
  const made = {};
  for (const [name, shape] of Object.entries(CONTRACT.results)) {
    const own = camel(name);
    made[own] = (...values) => {
      try {
        if (typeof functions[own] !== "function") throw slipped(`the function \`${own}\` is missing`);
        const result = functions[own](...values);
        const slip = problem(`what \`${own}\` returned`, shape, result);
        if (slip) throw slipped(slip);
        return result;
      } catch (error) {
        throw told(error);
      }
    };
  }
  return made;
}

// The error of the contract in what was thrown: the host's own come as `payload`.
export function told(error) {
  const known = error && error.payload !== undefined ? error.payload : error;
  if (known === null || typeof known !== "object" || known.tag === undefined) {
    return { tag: "failed", val: `${error}\n${(error && error.stack) || ""}`.trimEnd() };
  }
  const slip = problem("the error that was thrown", CONTRACT.error, known);
  return slip ? slipped(slip) : known;
}

function slipped(val) {
  return { tag: "failed", val };
}

// What is wrong with a value, with its place; nothing where all is well.
function problem(place, shape, value) {
  const wrong = (wanted) => `${place} is ${shown(value)}, ${wanted} was expected`;
  if (shape === null) return value === undefined || value === null ? undefined : wrong("nothing");
  if (typeof shape === "string") return fits(shape, value) ? undefined : wrong(WORDS[shape] || `an integer (${shape})`);
  const [[form, inner]] = Object.entries(shape);
  switch (form) {
    case "option":
      return value === undefined || value === null ? undefined : problem(place, inner, value);
    case "list": {
      if (!Array.isArray(value)) return wrong("a list");
      return first(value.map((entry, at) => () => problem(`${place}[${at}]`, inner, entry)));
    }
    case "record": {
      if (value === null || typeof value !== "object") return wrong("an object");
      const names = inner.map(([name]) => camel(name));
      const other = Object.keys(value).find((name) => !names.includes(name));
      if (other !== undefined) return `${place} has the field \`${other}\`, the contract knows ${names.join(", ")}`;
      return first(
        inner.map(([name, own]) => () => {
          const is = (form) => own !== null && typeof own === "object" && form in own;
          const absent = value[camel(name)] === undefined && own !== null && !is("option");
          return absent ? `${place} has no field \`${camel(name)}\`` : problem(`${place}.${camel(name)}`, own, value[camel(name)]);
        }),
      );
    }
    case "enum":
      return inner.includes(value) ? undefined : wrong(inner.map((name) => `"${name}"`).join(" or "));
    default: {
      const [, cases] = inner;
      const found = value !== null && typeof value === "object" && cases.find(([name]) => name === value.tag);
      if (!found) return wrong(`an object whose \`tag\` is one of ${cases.map(([name]) => name).join(", ")}`);
      return problem(`${place}.val`, found[1], value.val);
    }
  }
}

function first(checks) {
  for (const check of checks) {
    const slip = check();
    if (slip) return slip;
  }
  return undefined;
}

const WORDS = { string: "a text", bytes: "a Uint8Array", bool: "true or false", float: "a number" };

function fits(word, value) {
  if (word === "any") return true;
  if (word === "string") return typeof value === "string";
  if (word === "bytes") return value instanceof Uint8Array;
  if (word === "bool") return typeof value === "boolean";
  if (word === "float") return typeof value === "number";
  if (typeof value !== "bigint" && !Number.isInteger(value)) return false;
  const bits = BigInt(word.slice(1));
  const [low, high] = word[0] === "u" ? [0n, 2n ** bits] : [-(2n ** (bits - 1n)), 2n ** (bits - 1n)];
  return BigInt(value) >= low && BigInt(value) < high;
}

function shown(value) {
  if (value === undefined) return "undefined";
  const text = typeof value === "bigint" ? `${value}n` : JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? `${inner}n` : inner));
  return text && text.length > 80 ? `${text.slice(0, 80)}…` : `${text}`;
}

function camel(name) {
  return name.replace(/-(.)/g, (_, letter) => letter.toUpperCase());
}
