#!/usr/bin/env python3
"""Makes a small tokenizer.json of SentencePiece's kind, as Llama 2 and Mistral have it (pieces with `▁` for a space, bytes
for what no piece has, a normaliser in place of a pre-tokeniser), and what `transformers` makes of texts with it.

    tokenizers_of_pieces.py FOLDER

Its tokenizer_config.json asks for an end token that tokenizer.json does not add: where both are there, `transformers` goes by
tokenizer.json. Needs the packages transformers (5.24.0) and tokenizers (0.23.3).
"""

import json
import pathlib
import sys

from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import AutoTokenizer

TEXTS = [
    "Hello world",
    " leading and trailing ",
    "two  spaces,   three, and\ttabs\n\nlines\r\n",
    "naïve café, ﬁne ½ Ångström, e\u0301",
    "日本語とemoji 🦙🏽 zero\u200dwidth",
    "the ▁ of pieces <0x41> and <s> and </s>",
    "<s>at once</s>",
    "x</s> <code>y</code>    <code> z",
    "def f(a):\n    return a ** 2",
    "",
    " ",
    "\u0000\u0007",
]


def trained():
    """Pieces and merges of a text, spaces written as `▁`."""
    text = (pathlib.Path(__file__).parent.parent / "fixtures/texts/alice.txt").read_text()[:30_000]
    words = ["▁" + word for word in text.split()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.train_from_iterator(words, trainers.BpeTrainer(vocab_size=360, show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    merges = [merge if isinstance(merge, list) else merge.split(" ", 1) for merge in model["merges"]]
    return sorted(model["vocab"], key=model["vocab"].get), [["▁", "▁"], *merges]


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    pieces, merges = trained()
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁▁"]
    vocab = {piece: id for id, piece in enumerate([*names, *(piece for piece in pieces if piece not in names)])}
    tokenizer = Tokenizer(
        models.BPE(vocab, [tuple(merge) for merge in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    told = json.loads(tokenizer.to_str())
    told["added_tokens"] = [
        dict(id=id, content=text, single_word=False, lstrip=False, rstrip=False, normalized=False, special=special)
        for id, text, special in [
            (0, "<unk>", True),
            (1, "<s>", True),
            (2, "</s>", True),
            (len(vocab), "<code>", False),
            (len(vocab) + 1, "▁▁▁▁", False),
        ]
    ]
    told["post_processor"] = dict(
        type="TemplateProcessing",
        single=[dict(SpecialToken=dict(id="<s>", type_id=0)), dict(Sequence=dict(id="A", type_id=0))],
        pair=[dict(Sequence=dict(id="A", type_id=0)), dict(Sequence=dict(id="B", type_id=1))],
        special_tokens={"<s>": dict(id="<s>", ids=[1], tokens=["<s>"])},
    )
    (folder / "tokenizer.json").write_text(json.dumps(told, ensure_ascii=False, separators=(",", ":")) + "\n")
    config = dict(
        tokenizer_class="PreTrainedTokenizerFast",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        add_bos_token=True,
        add_eos_token=True,
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    reference = AutoTokenizer.from_pretrained(folder)
    cases = []
    for text in TEXTS:
        ids = reference(text).input_ids
        plain = reference(text, add_special_tokens=False).input_ids
        cases.append(dict(text=text, ids=ids, plain=plain, decoded=reference.decode(plain, skip_special_tokens=False)))
    (folder / "answers.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")


main()
