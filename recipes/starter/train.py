"""Train the starter model and its draft: one command, resumable, two CPU cores are enough.

    python recipes/starter/train.py prepare --data FOLDER --work WORK
    python recipes/starter/train.py train --work WORK --size target
    python recipes/starter/train.py train --work WORK --size draft --steps 1500 \\
        --lr 1e-2 --lr-embedding 1e-2
    python recipes/starter/train.py export --work WORK --out src/jeton/starter

FOLDER holds `corpora/`, `udhr/` and `math/` (the model card lists the files). A killed `train`
continues from its last checkpoint when it is started again with the same arguments.

Optimizer: Muon for the matrices of the body (Jordan 2024), AdamW for embeddings and norms;
constant learning rate, then a linear fall to zero over the last part of the steps, so that the
number of steps may still be changed while the constant part runs.
"""

import argparse
import json
import math
import shutil
import time
from pathlib import Path

import data
import numpy as np
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {
    "target": {
        "hidden_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 768,
    },
    "draft": {
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 192,
    },
}
# Shares of the rows; more prose while the learning rate falls, since that is what stays.
MIXTURE = {"english": 0.46, "python": 0.39, "other": 0.11, "fim": 0.04}
FINAL_MIXTURE = {"english": 0.62, "python": 0.22, "other": 0.12, "fim": 0.04}
CONTEXT = 1024


def prepare(args: argparse.Namespace) -> None:
    """Write tokenizer.json and one array of ids per stream."""
    args.work.mkdir(parents=True, exist_ok=True)
    streams = data.collect(args.data)
    tokenizer = data.train_tokenizer(streams)
    tokenizer.save(str(args.work / "tokenizer.json"))
    for name, ids in data.encode_streams(tokenizer, streams).items():
        np.save(args.work / f"{name}.npy", ids)
        size = sum(len(document.encode()) for document in streams[name])
        print(f"{name}: {size / 1e6:.1f} MB, {len(ids)} tokens, {size / len(ids):.3f} bytes/token")
        if name.startswith("held_"):
            (args.work / f"{name}.json").write_text(json.dumps({"bytes": size}))


def build_model(size: str, seed: int) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=data.VOCAB_SIZE,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=4,
        use_cache=True,
        **SIZES[size],
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def sample_batch(
    streams: dict, mixture: dict[str, float], step: int, batch: int, length: int
) -> torch.Tensor:
    """Return ids of shape (batch, length + 1); a function of the step alone, so runs resume."""
    rng = np.random.default_rng([step, length])
    names = rng.choice(list(mixture), size=batch, p=list(mixture.values()))
    rows = []
    for name in names:
        ids = streams[name]
        start = rng.integers(0, len(ids) - length - 1)
        rows.append(ids[start : start + length + 1].astype(np.int64))
    return torch.from_numpy(np.stack(rows))


def learning_rate(step: int, steps: int, decay: float) -> float:
    """Return the factor of the peak rate: warm up, hold, fall linearly to zero."""
    return min(1.0, (step + 1) / 100, (steps - step) / max(1.0, decay * steps))


@torch.no_grad()
def held_out_bits(model: LlamaForCausalLM, work: Path, name: str, num_windows: int) -> float:
    """Return approximate bits per byte on evenly spaced windows (the exact figure is jeton's)."""
    ids = np.load(work / f"{name}.npy")
    size_bytes = json.loads((work / f"{name}.json").read_text())["bytes"]
    starts = np.linspace(0, len(ids) - CONTEXT - 2, num_windows).astype(int)
    x = torch.from_numpy(np.stack([ids[s : s + CONTEXT + 1].astype(np.int64) for s in starts]))
    total = 0.0
    for row in x.split(8):
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(row[:, :-1], use_cache=False).logits
        total += functional.cross_entropy(
            logits.float().flatten(0, 1), row[:, 1:].flatten(), reduction="sum"
        ).item()
    nats_per_token = total / (num_windows * CONTEXT)
    return nats_per_token / math.log(2) * len(ids) / size_bytes


def train(args: argparse.Namespace) -> None:
    """Train to the last step, writing a checkpoint every 100 steps."""
    streams = {name: np.load(args.work / f"{name}.npy") for name in MIXTURE}
    model = build_model(args.size, seed=0)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=args.lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(
            others, lr=args.lr_embedding, betas=(0.9, 0.98), weight_decay=0.0, fused=True
        ),
    ]
    peaks = [args.lr, args.lr_embedding]
    checkpoint = args.work / f"{args.size}.pt"
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first = state["step"]
        print(f"continuing at step {first}")

    @torch.compile(dynamic=False)
    def loss_of(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.model(x[:, :-1], use_cache=False).last_hidden_state
            logits = model.lm_head(hidden).flatten(0, 1)
        return functional.cross_entropy(logits.float(), x[:, 1:].flatten())

    started, tokens_seen, average = time.time(), 0, None
    for step in range(first, args.steps):
        # The last quarter sees the whole context; shorter rows before that are cheaper.
        length = CONTEXT if step >= 0.75 * args.steps else CONTEXT // 2
        mixture = FINAL_MIXTURE if step >= (1 - args.decay) * args.steps else MIXTURE
        batch = sample_batch(streams, mixture, step, args.tokens // length, length)
        factor = learning_rate(step, args.steps, args.decay)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * factor
        loss = loss_of(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        tokens_seen += args.tokens
        value = loss.item()
        average = value if average is None else 0.95 * average + 0.05 * value
        if (step + 1) % 20 == 0:
            rate = tokens_seen / (time.time() - started)
            left = (args.steps - step - 1) * args.tokens / rate / 60
            print(
                f"step {step + 1}/{args.steps} loss {average:.4f} "
                f"{rate:.0f} tokens/s, {left:.0f} min left",
                flush=True,
            )
        if (step + 1) % 100 == 0 or step + 1 == args.steps:
            state = {
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "step": step + 1,
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
        if (step + 1) % 500 == 0 or step + 1 == args.steps:
            figures = {
                name: round(held_out_bits(model, args.work, name, 32), 4)
                for name in ("held_english", "held_python")
            }
            print(f"step {step + 1} held-out bits/byte {figures}", flush=True)


def export(args: argparse.Namespace) -> None:
    """Write both models as Hugging Face folders in bfloat16, with the tokenizer."""
    for size in SIZES:
        checkpoint = args.work / f"{size}.pt"
        if not checkpoint.exists():
            print(f"no {checkpoint.name}: {size} is left out")
            continue
        model = build_model(size, seed=0)
        model.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
        folder = args.out / size
        model.to(torch.bfloat16).save_pretrained(folder)
        shutil.copyfile(args.work / "tokenizer.json", folder / "tokenizer.json")
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<|endoftext|>",
            "eos_token": "<|endoftext|>",
            "pad_token": "<|pad|>",
            "model_max_length": CONTEXT,
            "clean_up_tokenization_spaces": False,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
        size_bytes = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{folder}: {model.num_parameters()} parameters, {size_bytes / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["prepare", "train", "export"])
    parser.add_argument("--data", type=Path, help="folder with corpora/, udhr/ and math/")
    parser.add_argument("--work", type=Path, required=True, help="arrays and checkpoints")
    parser.add_argument("--out", type=Path, help="where export writes the package data")
    parser.add_argument("--size", choices=sorted(SIZES), default="target")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--tokens", type=int, default=8192, help="tokens per step")
    parser.add_argument("--lr", type=float, default=6e-3, help="peak rate of the matrices")
    parser.add_argument("--lr-embedding", type=float, default=6e-3)
    parser.add_argument("--decay", type=float, default=0.35, help="part of the steps that decays")
    args = parser.parse_args()
    {"prepare": prepare, "train": train, "export": export}[args.command](args)


if __name__ == "__main__":
    main()
