"""Train the model of key-value chains that `jeton bench kv` asks: about ten minutes of one core.

    python recipes/kv/train.py --out src/jeton/kv/chains [--minutes 10]

A two-layer Llama (d = 128, 4 query and 2 key-value heads) reads contexts of `jeton.kv.tasks` and
then all of their questions; the loss is on the answers. Length grows from 64 to 512 tokens.
"""

import argparse
import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from jeton.kv import tasks

CONFIG = {
    "vocab_size": tasks.VOCAB_SIZE,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": None,
}
# (part of the time, context length, chains, texts per step)
STAGES = ((0.25, 64, 3, 64), (0.2, 128, 6, 32), (0.25, 256, 10, 16), (0.3, 512, 14, 8))


def batch(generator, length, num_chains, size):
    """Return contexts with all their questions, and the labels of the answers."""
    rows, labels = [], []
    for _ in range(size):
        context = tasks.draw_context(generator, length, num_chains)
        asked = context.pairs
        if generator.random() < 0.5:
            asked = [asked[i] for i in generator.permutation(len(asked))]
        questions = []
        for key, value in asked:
            questions += [tasks.FIRST_KEY + key, tasks.FIRST_VALUE + value]
        key, value = context.marked
        questions += [tasks.MARK, tasks.FIRST_KEY + key, tasks.FIRST_VALUE + value]
        row = np.concatenate([context.token_ids, questions])
        label = np.full(len(row), -100)
        answers = np.arange(length + 1, len(row) - 3, 2)
        label[answers] = row[answers]
        label[-2:] = row[-2:]
        rows.append(row)
        labels.append(label)
    return torch.from_numpy(np.stack(rows)), torch.from_numpy(np.stack(labels))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="CPU time of this thread.")
    parser.add_argument("--start", type=Path, help="Go on from these weights, at full length.")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)
    generator = np.random.default_rng(arguments.seed)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**CONFIG))
    if arguments.start:
        model = AutoModelForCausalLM.from_pretrained(arguments.start, dtype=torch.float32)
        generator = np.random.default_rng(arguments.seed + 1)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    limit, started, step = arguments.minutes * 60, time.thread_time(), 0
    while (spent := (time.thread_time() - started) / limit) < 1.0:
        done, stage = spent, 0
        while stage < len(STAGES) - 1 and done >= STAGES[stage][0]:
            done -= STAGES[stage][0]
            stage += 1
        _, length, num_chains, size = STAGES[-1 - step % 2 if arguments.start else stage]
        warm = min(step / 100, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * spent)))
        ids, labels = batch(generator, length, num_chains, size)
        output = model(input_ids=ids, use_cache=False)
        logits = output.logits[:, length - 1 : -1].flatten(0, 1)
        wanted = labels[:, length:].flatten()
        loss = torch.nn.functional.cross_entropy(logits, wanted, ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 50 == 0:
            asked = wanted >= 0
            right = (logits.argmax(-1) == wanted)[asked].float().mean()
            figures = f"loss {loss:.3f} right {right:.3f}"
            print(f"{spent:.3f} step {step} length {length} {figures}", flush=True)
            if step % 500 == 0:
                save(model, arguments.out)
    save(model, arguments.out)


def save(model, out):
    out.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(out)


if __name__ == "__main__":
    main()
