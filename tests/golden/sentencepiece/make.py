"""Makes tiny SentencePiece vocabularies as GGUF files without tensors, and the texts that are tokenized with them.

Pieces are trained on the words below with the `tokenizers` package, so that the files are ours. `ids.mjs` then asks
llama.cpp for the ids. Run: python make.py && node ids.mjs
"""

import json
import struct

from tokenizers import Tokenizer, models, trainers

WORDS = """the ferry leaves the east landing at six in the morning and the west landing at seven in the evening
a model reads a text and writes the next word of the text it has read many texts before it was trained on words
die Fähre fährt um sechs Uhr morgens ab und kommt abends wieder zurück in den Hafen
def read(path): return open(path).read() if path else None for line in lines: print(line)
def write(path, text): with open(path, "w") as file: file.write(text)
日本語 の 文章 を 読む 東京 と 京都 日本 の 本
1 2 3 10 11 12 20 100 1000 2024 1.5 0.25
""".splitlines()
MARK = "\u2581"
ALPHABET = sorted(set("".join(WORDS)) - {" "}) + [MARK]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

TEXTS = [
    "", " ", "   ", "a", "the ferry", " the ferry", "the  ferry", "the ferry ", "  the   ferry  leaves    ", "\n", "\n\n\n",
    "the\nferry\n\nleaves\n\n\n\nat", "\tthe\t\tferry", "def read(path):\n    return open(path).read()\n\n\n",
    "die Fähre fährt zurück", "Fa\u0308hre", "日本語の文章を読む", "東京　京都", "🚢 ferry 👨‍👩‍👧", "𐍈", "مرحبا", "x" * 40, "nnnn" * 9,
    " " * 17 + "x", "in" * 12, "anananan", "1000 2024 1.5", "<s>the ferry</s>", "<turn>the ferry<end>\nat six", "the <turn> ferry",
    "<turn>  the", "<turn>\n\nthe<end> ", "<s>", "</s></s>", "<unk>", "<0x0A>", "▁the", "▁▁the▁ferry", "[PAD7]", "the<tag>ferry</tag>",
    "Ｆｅｒｒｙ ①", "the\u00a0ferry", "the\u200bferry", "a\u0000b", "def write(path, text): with open(path, \"w\") as file: file.write(text)",
]


def gguf(path, pairs):
    def text(value):
        raw = value.encode()
        return struct.pack("<Q", len(raw)) + raw

    def value(item):
        if isinstance(item, bool):
            return 7, struct.pack("<?", item)
        if isinstance(item, int):
            return 4, struct.pack("<I", item)
        if isinstance(item, float):
            return 6, struct.pack("<f", item)
        if isinstance(item, str):
            return 8, text(item)
        if isinstance(item, bytes):
            return 9, struct.pack("<IQ", 0, len(item)) + item
        kind = {str: 8, float: 6, int: 5}[type(item[0])]
        body = b"".join(struct.pack("<i", x) if kind == 5 else value(x)[1] for x in item)
        return 9, struct.pack("<IQ", kind, len(item)) + body

    with open(path, "wb") as out:
        out.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)))
        for key, item in pairs.items():
            kind, body = value(item)
            out.write(text(key) + struct.pack("<I", kind) + body)


def lines():
    return [MARK + line.replace(" ", MARK) for line in WORDS if line]


def bpe_pieces(size):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.train_from_iterator(lines(), trainers.BpeTrainer(vocab_size=size, initial_alphabet=ALPHABET, show_progress=False))
    vocab = tokenizer.get_vocab()
    return [piece for piece, _ in sorted(vocab.items(), key=lambda item: item[1])]


def unigram_pieces(size):
    tokenizer = Tokenizer(models.Unigram())
    trainer = trainers.UnigramTrainer(vocab_size=size, initial_alphabet=ALPHABET, show_progress=False, unk_token="<unk>", special_tokens=["<unk>"])
    tokenizer.train_from_iterator(lines(), trainer)
    pieces = [(p, s) for p, s in json.loads(tokenizer.to_str())["model"]["vocab"] if p != "<unk>"]
    return [p for p, _ in pieces], [s for _, s in pieces]


def vocabulary(path, model, heads, users, pieces, scores, with_bytes, **more):
    tokens, types, values = [], [], []

    def add(items, kind, score):
        for item in items:
            tokens.append(item)
            types.append(kind)
            values.append(float(score))

    add(heads[:1], UNKNOWN, 0)
    add(heads[1:], CONTROL, 0)
    add(users, USER, -1000.0 if model == "llama" else 0)
    if with_bytes:
        add(BYTES, BYTE, 0)
    for piece, score in zip(pieces, scores):
        if piece not in tokens:
            add([piece], NORMAL, score)
    add([f"[PAD{len(tokens)}]"], UNUSED, -1000)
    sizes = {"context_length": 64, "embedding_length": 8, "block_count": 1, "feed_forward_length": 8, "attention.head_count": 1}
    pairs = {"general.architecture": "llama", **{f"llama.{key}": size for key, size in sizes.items()},
             "llama.attention.layer_norm_rms_epsilon": 1e-5, "general.name": more.pop("name", "tiny"), "tokenizer.ggml.model": model,
             "tokenizer.ggml.pre": "default", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.scores": values,
             "tokenizer.ggml.token_type": types, "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
             "tokenizer.ggml.unknown_token_id": 0}
    pairs.update({f"tokenizer.ggml.{key}": item for key, item in more.items()})
    gguf(path, pairs)


def charsmap():
    """One rule: U+00A0 becomes a space. A double array as SentencePiece compiles it."""
    units = [0] * 1024
    replacement = b" \0"

    def offset(by):
        return by << 10

    # Root: children in block 0. Byte C2 leads to block 256, byte A0 there to block 512, whose entry 0 is the value.
    units[0xC2] = 0xC2 | offset(0xC2 ^ 256)
    units[256 ^ 0xA0] = 0xA0 | 1 << 8 | offset((256 ^ 0xA0) ^ 512)
    units[512] = 1 << 31 | 0
    array = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(array)) + array + replacement


def main():
    heads = ["<unk>", "<s>", "</s>", "<turn>", "<end>"]
    runs = [" " * n for n in range(2, 9)] + ["\n" * n for n in range(1, 5)] + ["\t", "\t\t", "<tag>", "</tag>"]
    pieces = bpe_pieces(420)
    ranks = [-float(rank) for rank in range(len(pieces))]
    vocabulary("llama.gguf", "llama", heads, [], pieces, ranks, True)
    vocabulary("gemma.gguf", "llama", heads, runs, pieces, ranks, True, add_space_prefix=False)
    # Its name alone says that special tokens take the spaces behind them.
    vocabulary("phi3.gguf", "llama", heads + ["<|endoftext|>"], [], pieces, ranks, True, name="Tiny Phi-3")
    pieces, scores = unigram_pieces(300)
    vocabulary("unigram.gguf", "t5", heads, ["<tag>", "</tag>"], pieces, scores, False, add_space_prefix=True)
    vocabulary("t5.gguf", "t5", heads, [], pieces, scores, False, add_space_prefix=True, remove_extra_whitespaces=True,
               precompiled_charsmap=charsmap())
    with open("texts.json", "w", encoding="utf-8") as out:
        json.dump(TEXTS, out, ensure_ascii=False, indent=0)


main()
