#!/usr/bin/env python3
"""Makes tests/fixtures/encoders: a small random checkpoint of each encoder family with its tokeniser, and what
`sentence-transformers` makes of some texts with it; and tests/fixtures/minilm.json, the same of the real
all-MiniLM-L6-v2 (scripts/minilm.sh fetches it).

    python3 -m venv oracle && oracle/bin/pip install torch transformers sentence-transformers
    oracle/bin/python tests/oracles/encoders.py target/checkpoints/all-MiniLM-L6-v2

Weights are numbers that brain floats have, and most files store them so; the reference computes in float32, one text
after another. Each way of pooling is there, once in the words of old files.
"""

import json
import pathlib
import shutil
import sys
import tempfile

import sentence_transformers
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from sentence_transformers.models import Normalize, Pooling, Transformer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "A fast, brown animal leaps across a dog that is lazy!",
    "Hello",
    "Grüße aus Köln: 12.5 % of 3,000 is 375.",
    "人工智能 and   tabs\tand\nnew lines",
    "def main():\n    print('embeddings')",
    "🙂 emoji are bytes, too",
    "What is the capital of France?",
    "Paris is the capital and largest city of France, on the river Seine, with an estimated population of two million.",
    "a " * 40 + "long text that goes beyond every window of attention, again and again and again",
]
SIZE = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=256)
DISTIL = dict(dim=32, hidden_dim=48, n_layers=2, n_heads=4, max_position_embeddings=256)
# Name: model class, options, kind of tokeniser, pooling, normalised, type of the stored numbers.
CASES = {
    "bert": ("BertModel", SIZE, "wordpiece", "mean", True, torch.float32),
    "bert_last": ("BertModel", dict(SIZE, hidden_act="gelu_new", hidden_size=40, num_attention_heads=1), "wordpiece", "lasttoken", False, torch.bfloat16),
    "bert_plain": ("BertModel", dict(SIZE, hidden_act="relu"), "wordpiece", None, False, torch.float16),
    "roberta": ("RobertaModel", dict(SIZE, hidden_size=48, num_attention_heads=2, type_vocab_size=1), "bytes", "cls", False, torch.bfloat16),
    "xlm-roberta": ("XLMRobertaModel", dict(SIZE, type_vocab_size=1), "unigram", "max", True, torch.bfloat16),
    "distilbert": ("DistilBertModel", DISTIL, "wordpiece", "mean", False, torch.bfloat16),
    "modernbert": ("ModernBertModel", dict(SIZE, num_hidden_layers=5, local_attention=8), "bytes", "cls", True, torch.bfloat16),
    "nomic_bert": ("NomicBertModel", SIZE, "wordpiece", "mean", True, torch.bfloat16),
}


def tokenizer(kind):
    """A small one of each kind, with its special tokens around a text."""
    if kind == "wordpiece":
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
        made.normalizer = normalizers.BertNormalizer(lowercase=True)
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        made.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=160, special_tokens=special, show_progress=False)
        first, last, names = "[CLS]", "[SEP]", dict(cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]")
    else:
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        first, last = "<s>", "</s>"
        names = dict(bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>")
        if kind == "bytes":
            made = tokenizers.Tokenizer(models.BPE())
            made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            made.decoder = decoders.ByteLevel()
            trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
        else:
            made = tokenizers.Tokenizer(models.Unigram())
            made.normalizer = normalizers.NFKC()
            made.pre_tokenizer = pre_tokenizers.Metaspace()
            made.decoder = decoders.Metaspace()
            trainer = trainers.UnigramTrainer(vocab_size=180, special_tokens=special, unk_token="<unk>", show_progress=False)
    made.train_from_iterator(TEXTS * 3, trainer)
    ids = [(text, made.token_to_id(text)) for text in (first, last)]
    made.post_processor = processors.TemplateProcessing(single=f"{first} $A {last}", pair=f"{first} $A {last} $B {last}", special_tokens=ids)
    # Every token of a text has type 0, also where the class would have it otherwise.
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, model_input_names=["input_ids", "attention_mask"], **names), ids


def randomise(model, generator):
    """Weights so large that attention and activations matter, norms around their neutral value."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name.lower() and weight.dim() == 1 and name.endswith("weight"):
                noise = 1.0 + 0.3 * noise
            elif weight.dim() == 1:
                noise = 0.3 * noise
            elif "embed" in name:
                noise = 0.7 * noise
            else:
                noise = noise * 1.5 / weight.shape[1] ** 0.5
            weight.copy_(noise.to(torch.bfloat16).to(torch.float32))


def old_words(folder, pooling, normalize):
    """modules.json and the rest as files of 2021 have them."""
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")] + [("2_Normalize", "Normalize")] * normalize
    modules = [dict(idx=i, name=str(i), path=path, type=f"sentence_transformers.models.{kind}") for i, (path, kind) in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    modes = {f"pooling_mode_{name}": name == pooling for name in ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"]}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(dict(word_embedding_dimension=32, **modes)))
    (folder / "sentence_bert_config.json").write_text(json.dumps(dict(max_seq_length=200, do_lower_case=False)))


def make(name, number):
    model_class, options, kind, pooling, normalize, stored = CASES[name]
    made, ids = tokenizer(kind)
    cls = getattr(transformers, model_class)
    ends = dict(ids)
    tokens = dict(pad_token_id=made.pad_token_id)
    if model_class in ("RobertaModel", "XLMRobertaModel", "ModernBertModel"):
        tokens.update(bos_token_id=ids[0][1], eos_token_id=ids[1][1])
    if model_class == "ModernBertModel":
        tokens.update(cls_token_id=ids[0][1], sep_token_id=ids[1][1])
    config = cls.config_class(vocab_size=len(made), **tokens, **options)
    pooler = {} if model_class in ("DistilBertModel", "ModernBertModel", "NomicBertModel") else dict(add_pooling_layer=False)
    model = cls(config, **pooler).eval().float()
    randomise(model, torch.Generator().manual_seed(number))
    folder = FIXTURES / "encoders" / name
    with tempfile.TemporaryDirectory() as plain:
        model.save_pretrained(plain)
        made.save_pretrained(plain)
        parts = [Transformer(plain)]
        parts.append(Pooling(parts[0].get_word_embedding_dimension(), pooling_mode=pooling or "mean"))
        parts += [Normalize()] * normalize
        reference = sentence_transformers.SentenceTransformer(modules=parts, device="cpu").float()
        reference.save(str(folder), create_model_card=False)
        vectors = [reference.encode(text, convert_to_numpy=True).tolist() for text in TEXTS]
    tokens = [made(text)["input_ids"] for text in TEXTS]
    if name == "bert":
        old_words(folder, "mean_tokens", normalize)
    if pooling is None:
        (folder / "modules.json").unlink()
    weights = folder / "model.safetensors"
    save_file({key: tensor.to(stored) for key, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})
    kept = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"}
    for path in folder.iterdir():
        if path.is_file() and path.name not in kept:
            path.unlink()
        if path.is_dir() and (pooling is None or not any(path.iterdir())):
            shutil.rmtree(path)
    return dict(tokens=tokens, vectors=vectors)


def rounded(vectors):
    return [[float(f"{number:.7g}") for number in vector] for vector in vectors]


def main():
    shutil.rmtree(FIXTURES / "encoders", ignore_errors=True)
    versions = {module.__name__: module.__version__ for module in (sentence_transformers, transformers, torch)}
    cases = {}
    for number, name in enumerate(CASES):
        cases[name] = make(name, number)
        cases[name]["vectors"] = rounded(cases[name]["vectors"])
    answers = dict(versions=versions, texts=TEXTS, cases=cases)
    (FIXTURES / "encoders" / "answers.json").write_text(json.dumps(answers, ensure_ascii=False) + "\n")
    for path in sys.argv[1:2]:
        model = sentence_transformers.SentenceTransformer(path, device="cpu", model_kwargs=dict(torch_dtype=torch.float32))
        vectors = [model.encode(text, convert_to_numpy=True).tolist() for text in TEXTS]
        tokens = [model.tokenizer(text)["input_ids"] for text in TEXTS]
        golden = dict(versions=versions, texts=TEXTS, tokens=tokens, vectors=rounded(vectors))
        (FIXTURES / "minilm.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
