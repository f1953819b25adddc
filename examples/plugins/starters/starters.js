// A template source in JavaScript: starting points that are made from plain objects.
//
// It asks for no capability. An error of the contract is thrown as `{ tag, val }`.

const BASE = "smollm2-135m";

/** Each starter: what it is about in prose, and pairs of question and answer. */
const STARTERS = {
  faq: {
    title: "Frequent questions",
    summary: "Questions that customers of a small bakery ask; put your own in their place.",
    tags: ["support", "faq"],
    prose: `The bakery at the corner of Mill Lane opens at six and closes at two, because the ovens are cold by then. Bread is
baked twice a day: rye and wheat before dawn, the sweet things towards ten. Whoever wants a whole cake orders it two
days ahead. Everything is baked with eggs or milk near it, so nothing is free of allergens for certain; only the plain
rye bread has neither among its ingredients. What is left at closing time goes to the shelter next door.`,
    pairs: [
      ["When do you open?", "At six in the morning."],
      ["When do you close?", "At two in the afternoon."],
      ["When are the sweet things fresh?", "Towards ten in the morning."],
      ["When is the rye bread baked?", "Before dawn, so it is fresh when we open."],
      ["How far ahead must I order a cake?", "Two days ahead."],
      ["Do you have anything without eggs and milk?", "The plain rye bread has neither among its ingredients, but it is baked near both."],
      ["Is anything free of allergens for certain?", "No. Everything is baked near eggs and milk."],
      ["What happens to bread that is not sold?", "It goes to the shelter next door at closing time."],
      ["Where is the bakery?", "At the corner of Mill Lane."],
      ["Do you bake in the afternoon?", "No. The ovens are cold by two."],
      ["Can I get a cake today?", "Only if one is left over: whole cakes are ordered two days ahead."],
      ["How often do you bake?", "Twice a day."],
    ],
  },
  glossary: {
    title: "Glossary",
    summary: "Terms with one-sentence meanings; the example is typography, put your own subject in its place.",
    tags: ["knowledge", "glossary"],
    prose: `Letters stand on the baseline. What hangs below it, as in g and p, is the descender; what rises above the small letters, as in
b and l, is the ascender; the height of the small letters themselves is the x-height. A typeface is the design, a font is
one cut of it in one weight and style. Kerning moves two letters towards or away from each other, tracking spaces a whole
run of them, and leading is the distance from baseline to baseline. A serif is the small stroke at the end of a larger one;
a ligature joins two letters, such as fi, into one shape. A widow is the last line of a paragraph that stands alone at the
head of a page, an orphan the first line that stands alone at its foot.`,
    pairs: [
      ["What is the baseline?", "The line that letters stand on."],
      ["What is a descender?", "The part of a letter that hangs below the baseline, as in g and p."],
      ["What is an ascender?", "The part of a letter that rises above the small letters, as in b and l."],
      ["What is the x-height?", "The height of the small letters without ascenders and descenders."],
      ["What is the difference between a typeface and a font?", "A typeface is the design; a font is one cut of it in one weight and style."],
      ["What is kerning?", "Moving two letters towards or away from each other."],
      ["What is tracking?", "The spacing of a whole run of letters."],
      ["What is leading?", "The distance from one baseline to the next."],
      ["What is a serif?", "The small stroke at the end of a larger one."],
      ["What is a ligature?", "Two letters joined into one shape, such as fi."],
      ["What is a widow in typography?", "The last line of a paragraph that stands alone at the head of a page."],
      ["What is an orphan in typography?", "The first line of a paragraph that stands alone at the foot of a page."],
    ],
  },
};

/** The text of the `.dlm` file. The host gives every new document an id of its own. */
function documentOf(name, starter) {
  const number = String(Object.keys(STARTERS).indexOf(name) + 1).padStart(2, "0");
  const pairs = starter.pairs.map(([question, answer]) => `### Q\n${question}\n### A\n${answer}\n`);
  return `---
dlm_id: 01KAZ0STARTERS00000000000A
dlm_version: 15
base_model: ${BASE}
---

# ${starter.title}

${starter.prose}

::instruction::
${pairs.join("\n")}`.replace("0000000000A", `000000000${number}`);
}

/** Changes whenever the text does: FNV-1a over its UTF-16 units. */
function revisionOf(text) {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193) >>> 0;
  }
  return hash.toString(16).padStart(8, "0");
}

function metaOf(name, starter) {
  return {
    name,
    title: starter.title,
    summary: starter.summary,
    tags: starter.tags,
    recommendedBase: BASE,
    expectedSteps: 60,
    expectedDuration: [],
    samplePrompts: [starter.pairs[0][0]],
    revision: revisionOf(documentOf(name, starter)),
    license: "CC0-1.0",
  };
}

export const templates = {
  open(arg) {
    if (arg !== "") {
      throw { tag: "invalid-input", val: `template source \`starters\` takes no location, found \`${arg}\`` };
    }
    return { identity: { name: "starters", detail: "starting points made from plain objects" }, cacheSeconds: 86400 };
  },

  list(query) {
    const words = (query ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    return Object.entries(STARTERS)
      .map(([name, starter]) => metaOf(name, starter))
      .filter((meta) => {
        const text = [meta.name, meta.title, meta.summary, ...meta.tags].join(" ").toLowerCase();
        return words.every((word) => text.includes(word));
      });
  },

  fetch(name) {
    if (!Object.hasOwn(STARTERS, name)) {
      throw { tag: "not-found", val: `no starter \`${name}\`; there are ${Object.keys(STARTERS).join(", ")}` };
    }
    const starter = STARTERS[name];
    return { meta: metaOf(name, starter), document: documentOf(name, starter), files: [] };
  },
};
