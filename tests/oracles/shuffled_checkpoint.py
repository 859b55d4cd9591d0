"""Writes a Llama checkpoint anew with its columns in another order: the same function, other groups.

The starter model's weights come from a file of four bits in groups of 32 columns, so that rounding them to such groups
again loses next to nothing. In another order no group is one of the file's, as in a checkpoint that was never rounded.
What is shuffled: the residual stream, each feed-forward network's middle, and the values of each head.

usage: shuffled_checkpoint.py FROM TO    (needs numpy; the tensors must be of brain floats in one file)
"""

import json
import pathlib
import shutil
import sys

import numpy

source, target = map(pathlib.Path, sys.argv[1:3])
config = json.loads((source / "config.json").read_text())
heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
width = config.get("head_dim") or config["hidden_size"] // heads
random = numpy.random.default_rng(1)


def order(count):
    return random.permutation(count)


def read(path):
    """Tensors by name, as 16-bit numbers: nothing is computed with them."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            assert entry["dtype"] == "BF16", (name, entry["dtype"])
            first, end = entry["data_offsets"]
            values = numpy.frombuffer(data[start + first : start + end], dtype=numpy.uint16)
            tensors[name] = values.reshape(entry["shape"])
    return tensors


def write(path, tensors):
    header, offset = {}, 0
    for name, array in tensors.items():
        header[name] = dict(dtype="BF16", shape=list(array.shape), data_offsets=[offset, offset + array.nbytes])
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            file.write(numpy.ascontiguousarray(array).tobytes())


tensors = read(source / "model.safetensors")
stream = order(config["hidden_size"])
for name in ["model.embed_tokens.weight", "lm_head.weight"]:
    if name in tensors:
        tensors[name] = tensors[name][:, stream]
tensors["model.norm.weight"] = tensors["model.norm.weight"][stream]
for layer in range(config["num_hidden_layers"]):
    prefix = f"model.layers.{layer}."
    middle = order(config["intermediate_size"])
    within = [order(width) for _ in range(kv_heads)]
    rows = numpy.concatenate([head * width + within[head] for head in range(kv_heads)])
    group = heads // kv_heads
    columns = numpy.concatenate([head * width + within[head // group] for head in range(heads)])
    orders = {
        "input_layernorm": (stream, None),
        "post_attention_layernorm": (stream, None),
        "self_attn.q_proj": (None, stream),
        "self_attn.k_proj": (None, stream),
        "self_attn.v_proj": (rows, stream),
        "self_attn.o_proj": (stream, columns),
        "mlp.gate_proj": (middle, stream),
        "mlp.up_proj": (middle, stream),
        "mlp.down_proj": (stream, middle),
    }
    for name, (of_rows, of_columns) in orders.items():
        tensor = tensors[f"{prefix}{name}.weight"]
        tensor = tensor if of_rows is None else tensor[of_rows]
        tensors[f"{prefix}{name}.weight"] = tensor if of_columns is None else tensor[:, of_columns]

target.mkdir(parents=True, exist_ok=True)
for file in source.iterdir():
    if file.suffix != ".safetensors" and file.is_file():
        shutil.copy(file, target / file.name)
write(target / "model.safetensors", tensors)
