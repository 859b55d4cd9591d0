#!/usr/bin/env python3
"""Makes of the starter model's GGUF the checkpoint that it once was, as near as its quantised weights allow.

    smollm2_checkpoint.py MODEL.gguf FOLDER [BF16.gguf]

Weights are dequantised and rounded to brain floats, llama.cpp's permutation of queries and keys is undone, and
tokenizer.json is built from the vocabulary and merges. With a third argument the same weights are written as a GGUF in
BF16 too, so that both plugins can be compared. Needs the packages gguf and numpy.
"""

import json
import pathlib
import sys

import numpy
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants

CONTROL = 3
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def name_of(tensor):
    parts = tensor.split(".")
    if parts[0] == "blk":
        return f"model.layers.{parts[1]}.{NAMES[parts[2]]}.weight"
    return f"{NAMES[parts[0]]}.weight"


def bf16(array):
    """Rounded to nearest, ties to even, as 16-bit numbers."""
    bits = numpy.ascontiguousarray(array, dtype=numpy.float32).view(numpy.uint32).astype(numpy.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(numpy.uint16)


def unpermuted(rows, heads):
    width = rows.shape[0] // heads
    return rows.reshape(heads, width // 2, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def write_safetensors(path, tensors):
    header, data, offset = {}, [], 0
    for name, array in tensors:
        header[name] = dict(dtype="BF16", shape=list(array.shape), data_offsets=[offset, offset + array.nbytes])
        data.append(array)
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for array in data:
            file.write(array.tobytes())


def tokenizer(tokens, types, merges):
    special = [
        dict(id=i, content=text, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
        for i, (text, kind) in enumerate(zip(tokens, types))
        if kind == CONTROL
    ]
    byte_level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    return dict(
        version="1.0",
        added_tokens=special,
        pre_tokenizer=dict(type="Sequence", pretokenizers=[dict(type="Digits", individual_digits=True), byte_level]),
        decoder=byte_level,
        model=dict(type="BPE", vocab={text: i for i, text in enumerate(tokens)}, merges=[m.split(" ", 1) for m in merges]),
    )


def write_gguf(path, reader, weights):
    architecture = reader.fields["general.architecture"].contents()
    writer = GGUFWriter(path, architecture)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=inner)
    writer.add_file_type(32)
    for tensor in reader.tensors:
        values = weights[tensor.name]
        if values.ndim == 1:
            writer.add_tensor(tensor.name, values.astype(numpy.float32))
        else:
            raw = quants.quantize(values, GGMLQuantizationType.BF16)
            writer.add_tensor(tensor.name, raw, raw_dtype=GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    source, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    reader = GGUFReader(source)
    field = lambda name: reader.fields[name].contents()
    heads, kv_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    weights, tensors = {}, []
    for tensor in reader.tensors:
        values = quants.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        # Both files get the same, rounded numbers.
        values = (bf16(values).astype(numpy.uint32) << 16).view(numpy.float32)
        weights[tensor.name] = values
        count = heads if "attn_q." in tensor.name else kv_heads if "attn_k." in tensor.name else None
        tensors.append((name_of(tensor.name), bf16(unpermuted(values, count) if count else values)))
    write_safetensors(folder / "model.safetensors", tensors)
    tokens = field("tokenizer.ggml.tokens")
    config = dict(
        architectures=["LlamaForCausalLM"],
        model_type="llama",
        vocab_size=len(tokens),
        hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"),
        num_hidden_layers=field("llama.block_count"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=field("llama.context_length"),
        rms_norm_eps=round(field("llama.attention.layer_norm_rms_epsilon"), 9),
        rope_theta=field("llama.rope.freq_base"),
        hidden_act="silu",
        tie_word_embeddings=True,
        torch_dtype="bfloat16",
        bos_token_id=field("tokenizer.ggml.bos_token_id"),
        eos_token_id=field("tokenizer.ggml.eos_token_id"),
    )
    settings = dict(
        bos_token=tokens[config["bos_token_id"]],
        eos_token=tokens[config["eos_token_id"]],
        chat_template=field("tokenizer.chat_template"),
    )
    text = tokenizer(tokens, field("tokenizer.ggml.token_type"), field("tokenizer.ggml.merges"))
    for name, content in [("config", config), ("tokenizer_config", settings), ("tokenizer", text)]:
        (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    if len(sys.argv) > 3:
        write_gguf(sys.argv[3], reader, weights)


if __name__ == "__main__":
    main()
