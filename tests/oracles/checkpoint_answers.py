#!/usr/bin/env python3
"""Writes tests/fixtures/checkpoint_answers.json: what `transformers` (float32) answers greedily on the checkpoint that
smollm2_checkpoint.py makes.

    checkpoint_answers.py FOLDER
"""

import json
import pathlib
import sys

import torch
import transformers

PROMPTS = ["The capital of France is", "def fibonacci(n):\n", "Überall gibt es 3 Äpfel, und"]
TOKENS = 24


def main():
    folder = sys.argv[1]
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=f"{folder}/tokenizer.json")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    answers = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        output = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False)
        new = output[0, ids.shape[1]:].tolist()
        answers.append(dict(prompt=prompt, tokens=ids[0].tolist(), answer=tokenizer.decode(new)))
    path = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "checkpoint_answers.json"
    path.write_text(json.dumps(answers, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
