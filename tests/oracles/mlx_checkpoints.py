#!/usr/bin/env python3
"""Makes tests/fixtures/mlx: small random checkpoints that MLX has rounded, and what `mlx_lm` makes of them.

    python3 -m venv oracle && oracle/bin/pip install 'mlx[cpu]' mlx-lm && oracle/bin/python tests/oracles/mlx_checkpoints.py

Each is written by `mlx_lm.convert` from a random float32 checkpoint. The reference computes in float32, also where what it
was given are brain floats: these are numbers like any other, and rounding between would hide mistakes. The answers are log probabilities behind some of the prompt's tokens, the greedy continuation, and some rows of the embedding
as `mlx.core.dequantize` has them.
"""

import json
import pathlib
import shutil
import tempfile

import mlx.core as mx
import mlx_lm
import numpy
from mlx_lm.convert import convert
from safetensors.numpy import save_file

import importlib.metadata

from checkpoints_tokenizer import tokenizer

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "mlx"
VOCABULARY = 258
PROMPT_TOKENS = 60
GREEDY_TOKENS = 24
ROWS = [0, 9, 40, PROMPT_TOKENS - 1]
EMBEDDING_ROWS = [0, 97, 257]

SMALL = dict(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    hidden_act="silu",
    tie_word_embeddings=False,
    bos_token_id=256,
    eos_token_id=257,
)
LLAMA = dict(model_type="llama", architectures=["LlamaForCausalLM"])
QWEN3 = dict(model_type="qwen3", architectures=["Qwen3ForCausalLM"], head_dim=16, tie_word_embeddings=True)
PHI3 = dict(model_type="phi3", architectures=["Phi3ForCausalLM"], hidden_size=64, sliding_window=None)
QWEN3_MOE = dict(
    model_type="qwen3_moe", architectures=["Qwen3MoeForCausalLM"], head_dim=16, num_experts=4, num_experts_per_tok=2,
    moe_intermediate_size=32, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[0],
)
MIXTRAL = dict(
    model_type="mixtral", architectures=["MixtralForCausalLM"], num_local_experts=4, num_experts_per_tok=2,
    sliding_window=None, intermediate_size=64,
)
# (bits, group, dtype of scales)
CASES = {
    "llama_2bit": (LLAMA, 2, 32, "float32"),
    "llama_3bit": (LLAMA, 3, 64, "float32"),
    "qwen3_4bit": (QWEN3, 4, 64, "float32"),
    "phi3_5bit": (PHI3, 5, 32, "float32"),
    "llama_6bit": (LLAMA, 6, 32, "float32"),
    "qwen3_8bit": (QWEN3, 8, 64, "float32"),
    "llama_4bit_bf16": (LLAMA, 4, 32, "bfloat16"),
    "qwen3_moe_4bit": (QWEN3_MOE, 4, 32, "float32"),
    "mixtral_6bit": (MIXTRAL, 6, 64, "float32"),
    "llama_4bit_bf16_128": ({**LLAMA, "hidden_size": 128}, 4, 128, "bfloat16"),
}


def shapes(config):
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    width = config.get("head_dim", hidden // config["num_attention_heads"])
    queries, keys = config["num_attention_heads"] * width, config["num_key_value_heads"] * width
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    yield "model.norm.weight", (hidden,)
    if not config["tie_word_embeddings"]:
        yield "lm_head.weight", (vocabulary, hidden)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        yield layer + "input_layernorm.weight", (hidden,)
        yield layer + "post_attention_layernorm.weight", (hidden,)
        yield layer + "self_attn.o_proj.weight", (hidden, queries)
        sparse = config["model_type"] == "mixtral" or i not in config.get("mlp_only_layers", [i])
        if sparse:
            yield from experts(config, layer)
        else:
            yield layer + "mlp.down_proj.weight", (hidden, inner)
        if config["model_type"] == "phi3":
            yield layer + "self_attn.qkv_proj.weight", (queries + 2 * keys, hidden)
            yield layer + "mlp.gate_up_proj.weight", (2 * inner, hidden)
            continue
        yield layer + "self_attn.q_proj.weight", (queries, hidden)
        yield layer + "self_attn.k_proj.weight", (keys, hidden)
        yield layer + "self_attn.v_proj.weight", (keys, hidden)
        if not sparse:
            yield layer + "mlp.gate_proj.weight", (inner, hidden)
            yield layer + "mlp.up_proj.weight", (inner, hidden)
        if config["model_type"] in ["qwen3", "qwen3_moe"]:
            yield layer + "self_attn.q_norm.weight", (width,)
            yield layer + "self_attn.k_norm.weight", (width,)


def experts(config, layer):
    """The networks of a layer and their router."""
    hidden, inner, count = config["hidden_size"], config["intermediate_size"], config.get("num_local_experts")
    names, below = ["w1", "w3", "w2"], layer + "block_sparse_moe."
    if config["model_type"] == "qwen3_moe":
        names, below = ["gate_proj", "up_proj", "down_proj"], layer + "mlp."
        inner, count = config["moe_intermediate_size"], config["num_experts"]
    yield below + "gate.weight", (count, hidden)
    for i in range(count):
        for name, shape in zip(names, [(inner, hidden), (inner, hidden), (hidden, inner)]):
            yield f"{below}experts.{i}.{name}.weight", shape


def weights(config, random):
    """So large that attention and gates matter; norms around one."""
    for name, shape in shapes(config):
        noise = random.standard_normal(shape)
        yield name, (1 + 0.3 * noise if "norm" in name else noise * 1.5 / shape[-1] ** 0.5).astype(numpy.float32)


def answers(folder, prompt):
    model, _ = mlx_lm.load(str(folder))
    # Scales, biases and norms; codes are no floats and stay.
    model.set_dtype(mx.float32)
    tokens = list(prompt)
    logits = model(mx.array([tokens]))[0].astype(mx.float32)
    rows = logits[mx.array(ROWS)]
    rows = rows - mx.logsumexp(rows, axis=-1, keepdims=True)
    for _ in range(GREEDY_TOKENS):
        tokens.append(int(mx.argmax(model(mx.array([tokens]))[0, -1])))
    embedding = model.model.embed_tokens
    numbers = mx.dequantize(
        embedding.weight, embedding.scales, embedding.biases, group_size=embedding.group_size, bits=embedding.bits
    )
    return dict(
        prompt=prompt,
        log_probabilities=[[round(value, 5) for value in row] for row in rows.tolist()],
        greedy=tokens[PROMPT_TOKENS:],
        embedding={row: numbers[row].astype(mx.float32).tolist() for row in EMBEDDING_ROWS},
    )


def main():
    mx.set_default_device(mx.cpu)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    told = {"mlx_lm": importlib.metadata.version("mlx-lm"), "rows": ROWS, "cases": {}}
    for number, (name, (family, bits, group, dtype)) in enumerate(CASES.items()):
        random = numpy.random.default_rng(number)
        config = {**SMALL, **family}
        with tempfile.TemporaryDirectory() as source:
            source = pathlib.Path(source)
            (source / "config.json").write_text(json.dumps(config))
            (source / "tokenizer.json").write_text(json.dumps(tokenizer(), ensure_ascii=False))
            (source / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
            save_file(dict(weights(config, random)), source / "model.safetensors", metadata={"format": "pt"})
            convert(str(source), str(FOLDER / name), quantize=True, q_group_size=group, q_bits=bits, dtype=dtype)
        for extra in ["README.md", "tokenizer_config.json", "special_tokens_map.json"]:
            (FOLDER / name / extra).unlink(missing_ok=True)
        prompt = random.integers(0, 256, PROMPT_TOKENS).tolist()
        # mlx_lm wants a tokenizer that it knows; the plugin has its own reading of the same file.
        told["cases"][name] = answers(FOLDER / name, prompt)
    (FOLDER / "answers.json").write_text(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
