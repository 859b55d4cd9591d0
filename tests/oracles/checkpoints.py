#!/usr/bin/env python3
"""Makes tests/fixtures/checkpoints: a small random checkpoint of each decoder family, and what `transformers` makes of it.

    python3 -m venv oracle && oracle/bin/pip install torch transformers && oracle/bin/python tests/oracles/checkpoints.py

The weights are brain floats, so that they take little room; the reference computes with them in float32. Each prompt is
longer than the sliding window and than the length that a scaled rope was trained for. The answers are log
probabilities behind some of the prompt's tokens, and the greedy continuation.
"""

import json
import pathlib
import shutil

import torch
import transformers

from checkpoints_tokenizer import tokenizer

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "checkpoints"
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
}


def randomise(model, generator):
    """Weights so large that attention and gates matter, norms around their neutral value."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if "norm" in name:
                neutral = 0.0 if "Gemma" in type(model).__name__ else 1.0
                weight.copy_(neutral + 0.3 * noise)
            elif weight.dim() == 1:
                weight.copy_(0.3 * noise)
            else:
                weight.copy_(noise * 1.5 / weight.shape[1] ** 0.5)
            weight.copy_(weight.to(torch.bfloat16).to(torch.float32))


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    answers = {"transformers": transformers.__version__, "rows": ROWS, "cases": {}}
    for number, (name, (config_class, options)) in enumerate(CASES.items()):
        generator = torch.Generator().manual_seed(number)
        config = getattr(transformers, config_class)(**{**SMALL, **options})
        config._attn_implementation = "eager"
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        randomise(model, generator)
        prompt = torch.randint(0, 256, (PROMPT_TOKENS,), generator=generator).tolist()
        tokens = list(prompt)
        with torch.no_grad():
            logits = model(torch.tensor([tokens])).logits[0]
            rows = torch.log_softmax(logits[ROWS], dim=-1)
            for _ in range(GREEDY_TOKENS):
                tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        answers["cases"][name] = dict(
            prompt=prompt,
            log_probabilities=[[round(value, 5) for value in row] for row in rows.tolist()],
            greedy=tokens[PROMPT_TOKENS:],
        )
        folder = FOLDER / name
        model.to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)
        (folder / "generation_config.json").unlink(missing_ok=True)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer(), ensure_ascii=False) + "\n")
    (FOLDER / "answers.json").write_text(json.dumps(answers) + "\n")


if __name__ == "__main__":
    main()
