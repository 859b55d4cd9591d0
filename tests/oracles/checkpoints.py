#!/usr/bin/env python3
"""Makes tests/fixtures/checkpoints, a small random checkpoint of each decoder family, and tests/fixtures/candle, the same of
those that run through candle; with what `transformers` makes of them.

    python3 -m venv oracle && oracle/bin/pip install torch transformers && oracle/bin/python tests/oracles/checkpoints.py

Names of folders as arguments choose among the two.

The weights are brain floats, so that they take little room; the reference computes with them in float32. Each prompt is
longer than the sliding window and than the length that a scaled rope was trained for. The answers are log
probabilities behind some of the prompt's tokens, and the greedy continuation by `generate`, with its cache.

Where positions depend on the length of the sequence, there are answers to a prompt that is shorter than that length and
grows beyond it, and to one that comes in pieces.
"""

import copy
import json
import pathlib
import shutil
import sys

import torch
import transformers

from checkpoints_tokenizer import tokenizer

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "fixtures"
VOCABULARY = 258
PROMPT_TOKENS = 80
GREEDY_TOKENS = 24
ROWS = [0, 9, 40, PROMPT_TOKENS - 1]

SMALL = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
    bos_token_id=256,
    eos_token_id=257,
    pad_token_id=None,
)
LLAMA3 = dict(
    rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=32)
LINEAR = dict(rope_type="linear", rope_theta=10000.0, factor=4.0)
DEEPSEEK = dict(
    num_key_value_heads=4, q_lora_rank=None, kv_lora_rank=16, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16,
    n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=24, first_k_dense_replace=1,
)
CASES = {
    "llama": ("LlamaConfig", dict(head_dim=16, rope_parameters=LLAMA3, attention_bias=True, mlp_bias=True)),
    "llama_narrow": ("LlamaConfig", dict(rope_parameters=LINEAR, tie_word_embeddings=True)),
    "mistral": ("MistralConfig", dict(head_dim=16, sliding_window=16, rope_parameters=YARN)),
    "qwen2": ("Qwen2Config", dict(tie_word_embeddings=True)),
    "qwen3": ("Qwen3Config", dict(head_dim=16, use_sliding_window=True, sliding_window=16, max_window_layers=1)),
    "gemma": ("GemmaConfig", dict(head_dim=16)),
    "gemma2": ("Gemma2Config", dict(head_dim=16, sliding_window=16, query_pre_attn_scalar=24, attn_logit_softcapping=5.0, final_logit_softcapping=3.0)),
    "gemma3_text": ("Gemma3TextConfig", dict(head_dim=16, sliding_window=16, query_pre_attn_scalar=24, num_hidden_layers=4, layer_types=["sliding_attention", "full_attention"] * 2)),
    "phi3": ("Phi3Config", dict(sliding_window=16, hidden_size=64, partial_rotary_factor=0.5)),
    "granite": ("GraniteConfig", dict(embedding_multiplier=3.0, residual_multiplier=0.5, attention_multiplier=0.2, logits_scaling=2.0)),
    "olmo2": ("Olmo2Config", dict()),
    "smollm3": ("SmolLM3Config", dict(no_rope_layer_interval=2)),
    "glm": ("GlmConfig", dict(head_dim=16)),
    "glm4": ("Glm4Config", dict(head_dim=16, attention_bias=False)),
    "gpt_neox": ("GPTNeoXConfig", dict()),
    "gpt_neox_serial": ("GPTNeoXConfig", dict(use_parallel_residual=False, hidden_act="gelu_new", rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0, partial_rotary_factor=0.5))),
    "gpt2": ("GPT2Config", dict(activation_function="gelu_new")),
    "starcoder2": ("Starcoder2Config", dict(sliding_window=16)),
    "stablelm": ("StableLmConfig", dict(use_qkv_bias=True, rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5))),
    "stablelm_parallel": ("StableLmConfig", dict(use_parallel_residual=True, qk_layernorm=True, rope_parameters=dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5))),
    "cohere": ("CohereConfig", dict(use_qk_norm=True, logit_scale=0.5)),
    "cohere2": ("Cohere2Config", dict(sliding_window=16, num_hidden_layers=4, layer_types=["sliding_attention", "full_attention"] * 2, logit_scale=0.5)),
    "mixtral": ("MixtralConfig", dict(head_dim=16, sliding_window=16, num_local_experts=4, num_experts_per_tok=2)),
    "qwen3_moe": ("Qwen3MoeConfig", dict(head_dim=16, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=32, decoder_sparse_step=2, num_hidden_layers=4, mlp_only_layers=[3])),
    "qwen3_moe_normalised": ("Qwen3MoeConfig", dict(head_dim=16, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=24, norm_topk_prob=True, use_sliding_window=True, sliding_window=16)),
    "phi3_longrope": ("Phi3Config", dict(hidden_size=64, original_max_position_embeddings=32, rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1.1, 1.2, 1.5, 1.7, 2.0, 2.5, 3.0], long_factor=[1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 16.0]))),
    "llama_dynamic": ("LlamaConfig", dict(head_dim=16, max_position_embeddings=32, rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=4.0))),
    "phi": ("PhiConfig", dict(qk_layernorm=True)),
    "gptj": ("GPTJConfig", dict(rotary_dim=4)),
    "gpt_bigcode": ("GPTBigCodeConfig", dict()),
    "gpt_bigcode_heads": ("GPTBigCodeConfig", dict(multi_query=False)),
    "olmoe": ("OlmoeConfig", dict(num_experts=8, num_experts_per_tok=3, intermediate_size=32)),
    "qwen2_moe": ("Qwen2MoeConfig", dict(num_experts=6, num_experts_per_tok=2, moe_intermediate_size=24, shared_expert_intermediate_size=40)),
    "granitemoe": ("GraniteMoeConfig", dict(num_local_experts=4, num_experts_per_tok=2, embedding_multiplier=3.0, residual_multiplier=0.5, attention_multiplier=0.2, logits_scaling=2.0)),
    "falcon": ("FalconConfig", dict()),
    "falcon_new": ("FalconConfig", dict(new_decoder_architecture=True, num_kv_heads=2)),
    "falcon_serial": ("FalconConfig", dict(parallel_attn=False, multi_query=False, bias=True)),
    "olmo": ("OlmoConfig", dict(clip_qkv=1.0)),
    "olmoe_clipped": ("OlmoeConfig", dict(num_experts=4, num_experts_per_tok=2, intermediate_size=32, clip_qkv=1.0)),
    "olmo3": ("Olmo3Config", dict(sliding_window=16, num_hidden_layers=4, rope_parameters=dict(full_attention=YARN, sliding_attention=dict(rope_type="default", rope_theta=10000.0)))),
    "exaone4": ("Exaone4Config", dict(sliding_window=16, num_hidden_layers=4, sliding_window_pattern=2)),
    "seed_oss": ("SeedOssConfig", dict(head_dim=16, attention_out_bias=True, mlp_bias=True)),
    "ernie4_5": ("Ernie4_5Config", dict(head_dim=16, use_bias=True)),
    "helium": ("HeliumConfig", dict(head_dim=8, attention_bias=True)),
}
CANDLE_CASES = {
    "mamba": ("MambaConfig", dict()),
    "mamba2": ("Mamba2Config", dict(state_size=8, num_heads=8, head_dim=8, n_groups=1, chunk_size=16, tie_word_embeddings=True)),
    "lfm2": ("Lfm2Config", dict(layer_types=["conv", "full_attention", "conv"], block_multiple_of=16)),
    "recurrent_gemma": ("RecurrentGemmaConfig", dict(attention_window_size=256, intermediate_size=96)),
    "deepseek_v2": ("DeepseekV2Config", DEEPSEEK),
    "deepseek_v2_low_rank": ("DeepseekV2Config", dict(DEEPSEEK, q_lora_rank=24, first_k_dense_replace=0, routed_scaling_factor=2.0)),
}
FOLDERS = {"checkpoints": CASES, "candle": CANDLE_CASES}
# Whose positions depend on the length of the sequence; they change at 32 tokens.
BY_LENGTH = ["phi3_longrope", "llama_dynamic"]
SHORT_PROMPT = 24
PIECE_TOKENS = 13


def small(config_class):
    """The figures by the names of the family."""
    if config_class == "GPTNeoXConfig":
        return {name: value for name, value in SMALL.items() if name != "num_key_value_heads"}
    if config_class == "FalconConfig":
        names = dict(intermediate_size="ffn_hidden_size")
        return {names.get(name, name): value for name, value in SMALL.items() if name != "num_key_value_heads"}
    if config_class in ["MambaConfig", "Mamba2Config"]:
        names = ["vocab_size", "hidden_size", "num_hidden_layers", "bos_token_id", "eos_token_id", "pad_token_id"]
        return {name: SMALL[name] for name in names}
    if config_class == "RecurrentGemmaConfig":
        return {name: value for name, value in SMALL.items() if name != "max_position_embeddings"}
    if config_class not in ["GPT2Config", "GPTJConfig", "GPTBigCodeConfig"]:
        return SMALL
    names = dict(hidden_size="n_embd", intermediate_size="n_inner", num_hidden_layers="n_layer", num_attention_heads="n_head", max_position_embeddings="n_positions")
    return {names.get(name, name): value for name, value in SMALL.items() if name != "num_key_value_heads"}


def randomise(model, generator):
    """Weights so large that attention and gates matter, norms around their neutral value."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if name.endswith("bias"):
                weight.copy_(0.3 * noise)
            elif "norm" in name or ".ln_" in name:
                neutral = 0.0 if "Gemma" in type(model).__name__ else 1.0
                weight.copy_(neutral + 0.3 * noise)
            else:
                # Inputs come last, but in GPT-2's transposed matrices.
                inputs = weight.shape[0] if ".c_" in name and type(model).__name__ == "GPT2LMHeadModel" else weight.shape[-1]
                weight.copy_(noise * 1.5 / inputs**0.5)
            weight.copy_(weight.to(torch.bfloat16).to(torch.float32))


def rounded(rows):
    return [[round(value, 5) for value in row] for row in rows.tolist()]


def greedy(model, prompt):
    """What `generate` appends, each token computed with the keys that it has cached; no token ends it."""
    settings = transformers.GenerationConfig(
        do_sample=False, max_new_tokens=GREEDY_TOKENS, eos_token_id=None, pad_token_id=0
    )
    # What depends on the length begins anew.
    fresh = copy.deepcopy(model)
    fresh.generation_config.eos_token_id = None
    tokens = fresh.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), generation_config=settings)
    return tokens[0, len(prompt) :].tolist()


def in_pieces(model, prompt):
    """Log probabilities behind the prompt that comes in pieces."""
    model = copy.deepcopy(model)
    cache = transformers.DynamicCache(config=model.config)
    for first in range(0, len(prompt), PIECE_TOKENS):
        piece = torch.tensor([prompt[first : first + PIECE_TOKENS]])
        logits = model(piece, past_key_values=cache, use_cache=True).logits[0, -1]
    return rounded(torch.log_softmax(logits, dim=-1)[None])[0]


def make(folder, cases):
    shutil.rmtree(folder, ignore_errors=True)
    answers = {"transformers": transformers.__version__, "rows": ROWS, "cases": {}, "growing": {}, "pieces": {}}
    for number, (name, (config_class, options)) in enumerate(cases.items()):
        generator = torch.Generator().manual_seed(number)
        config = getattr(transformers, config_class)(**{**small(config_class), **options})
        config._attn_implementation = "eager"
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        randomise(model, generator)
        prompt = torch.randint(0, 256, (PROMPT_TOKENS,), generator=generator).tolist()
        with torch.no_grad():
            logits = copy.deepcopy(model)(torch.tensor([prompt])).logits[0]
            rows = torch.log_softmax(logits[ROWS], dim=-1)
            answers["cases"][name] = dict(prompt=prompt, log_probabilities=rounded(rows), greedy=greedy(model, prompt))
            if name in BY_LENGTH:
                answers["growing"][name] = greedy(model, prompt[:SHORT_PROMPT])
                answers["pieces"][name] = in_pieces(model, prompt)
        of_case = folder / name
        model.to(torch.bfloat16).save_pretrained(of_case, safe_serialization=True)
        (of_case / "generation_config.json").unlink(missing_ok=True)
        (of_case / "tokenizer.json").write_text(json.dumps(tokenizer(), ensure_ascii=False) + "\n")
    (folder / "answers.json").write_text(json.dumps(answers) + "\n")


if __name__ == "__main__":
    for name in sys.argv[1:] or FOLDERS:
        make(FIXTURES / name, FOLDERS[name])
