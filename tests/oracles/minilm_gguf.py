#!/usr/bin/env python3
"""A GGUF of a BERT that sentence-transformers pools by the mean, as llama.cpp's convert_hf_to_gguf.py writes it.

    python3 minilm_gguf.py CHECKPOINT OUT

Needs `gguf` and `numpy`. scripts/minilm.sh runs it for the tests.
"""

import json
import pathlib
import struct
import sys

import gguf
import numpy

NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


def tensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            start, end = (8 + length + offset for offset in entry["data_offsets"])
            yield name, numpy.frombuffer(data[start:end], numpy.float32).reshape(entry["shape"])


def renamed(name):
    module, kind = name.rsplit(".", 1)
    if module.startswith("encoder.layer."):
        _, _, number, module = module.split(".", 3)
        return f"blk.{number}.{NAMES[module]}.{kind}"
    return f"{NAMES[module]}.{kind}" if module in NAMES else None


def vocabulary(folder):
    """Words begin with U+2581 there, and pieces inside a word lose their `##`."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    special = {token["content"] for token in tokenizer["added_tokens"] if token["special"]}
    words = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    for word in words:
        if word in special:
            yield word, gguf.TokenType.CONTROL
        else:
            yield word[2:] if word.startswith("##") else "\u2581" + word, gguf.TokenType.NORMAL


def main(folder, out):
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(out, "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    tokens, types = zip(*vocabulary(folder))
    ids = {token: number for number, token in enumerate(tokens)}
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_tokenizer_model("bert")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_bos_token_id(ids["[CLS]"])
    writer.add_unk_token_id(ids["[UNK]"])
    writer.add_sep_token_id(ids["[SEP]"])
    writer.add_pad_token_id(ids["[PAD]"])
    writer.add_mask_token_id(ids["[MASK]"])
    for name, numbers in tensors(folder / "model.safetensors"):
        if to := renamed(name):
            writer.add_tensor(to, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])
