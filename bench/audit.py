"""Bench of the room `audit`: `python bench/audit.py [--json] [--quick]`.

Measures CPU time of this process; needs ../shared/data beside the checkout.
"""

import argparse
import json
import os
import platform
import random
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from jeton.audit.contexts import contexts
from jeton.audit.encoding import encode_all
from jeton.audit.evidence import AuditInput
from jeton.audit.reachability import Reach, find_reachability
from jeton.audit.registry import METRICS
from jeton.audit.run import audit
from jeton.core.vocabulary import Vocabulary, load_vocabulary

QUICK = ("gpt2", "kl3m-004-char-4k-cased", "mistral-v1", "sentencepiece-test-en")
MIXTURE = {"en": 0.33, "code": 0.14, "pt": 0.15, "ja": 0.28, "fi": 0.10}


def measure_cpu(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return CPU seconds and the result."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def add_goal(
    goals: list[dict[str, Any]], name: str, goal: float, measured: float, unit: str
) -> None:
    """Note a goal that holds when the measured figure is at most the goal."""
    row = {"name": name, "goal": goal, "measured": measured, "unit": unit}
    goals.append({**row, "holds": measured <= goal})


def bench_speed(data: Path, repeats: int, goals: list[dict[str, Any]]) -> dict[str, Any]:
    """Audit a 100k vocabulary over the languages of UDHR."""
    texts = {
        path.stem: path.read_text(encoding="utf-8").splitlines()
        for path in sorted((data / "udhr" / "articles").iterdir())[:60]
    }
    seconds = []
    for _ in range(repeats):
        vocabulary = load_vocabulary(data / "tokenizers" / "cl100k_base")
        vocabulary.encode_lossy("the engine starts")
        given = AuditInput(vocabulary, texts, is_parallel=True)
        cpu, _ = measure_cpu(lambda given=given: audit(given.vocabulary, given=given))
        seconds.append(cpu)
    median = float(np.median(seconds))
    add_goal(goals, "audit of cl100k_base over 60 languages", 2.0, median, "CPU-s")
    return {"median": median, "min": min(seconds), "max": max(seconds), "runs": repeats}


def count_false_dead(folder: Path, data: Path) -> dict[str, int]:
    """Return how many ids were called dead or shadowed, and how many came out of some text."""
    vocabulary = load_vocabulary(folder)
    found = find_reachability(vocabulary)
    claimed = np.zeros(vocabulary.vocab_size, dtype=bool)
    for state in (Reach.DEAD, Reach.SHADOWED, Reach.BYTES_ONLY):
        claimed[found.ids(state)] = True
    texts = [
        path.read_text(encoding="utf-8")
        for path in (
            *sorted((data / "udhr" / "articles").iterdir()),
            data / "corpora" / "en" / "tinyshakespeare.txt",
            data / "code" / "HumanEval.jsonl",
        )
    ]
    for token_id in np.flatnonzero(claimed).tolist():
        if vocabulary.tokens[token_id]:
            texts += [t for i in range(26) for t in contexts(vocabulary.tokens[token_id], i)]
    seen = np.unique(np.concatenate(encode_all(vocabulary, texts)))
    return {
        "claimed": int(claimed.sum()),
        "false": int(claimed[seen].sum()),
        "unknown": found.count(Reach.UNKNOWN),
    }


def bench_dead(data: Path, quick: bool, goals: list[dict[str, Any]]) -> dict[str, Any]:
    """Look for texts that contain a token called dead."""
    folders = [path for path in sorted((data / "tokenizers").iterdir()) if path.is_dir()]
    chosen = [path for path in folders if not quick or path.name in QUICK]
    found = {path.name: count_false_dead(path, data) for path in chosen}
    false = sum(row["false"] for row in found.values())
    add_goal(goals, f"false dead over {len(found)} tokenizers", 0.0, float(false), "ids")
    return found


def bench_mixture(data: Path, num_bytes: int, goals: list[dict[str, Any]]) -> dict[str, Any]:
    """Train a tokenizer on a known mixture of five categories and infer it from other text."""
    corpora = data / "corpora"
    paths = {
        "en": corpora / "en" / "us_state_union.txt",
        "code": data / "code" / "mbpp_shared.jsonl",
        "pt": corpora / "pt" / "constituicao_federal_1988.txt",
        "ja": corpora / "ja" / "wagahaiwa_nekodearu.txt",
        "fi": corpora / "fi" / "kalevala_runot_01-40.txt",
    }
    lines = {n: p.read_text(encoding="utf-8").splitlines(keepends=True) for n, p in paths.items()}
    generator = random.Random(0)
    for part in lines.values():  # so that both halves have the same distribution
        generator.shuffle(part)
    train = {name: "".join(part[::2]) for name, part in lines.items()}
    other = {name: ["".join(part[1::2])[:num_bytes]] for name, part in lines.items()}
    corpus = []
    for name, share in MIXTURE.items():  # bytes in proportion to the shares, repeated if short
        encoded = train[name].encode()
        wanted = int(share * num_bytes)
        encoded = (encoded * (wanted // len(encoded) + 1))[:wanted]
        corpus += encoded.decode(errors="ignore").splitlines(keepends=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + 1500, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    vocabulary = Vocabulary.from_tokenizer_json(tokenizer.to_str(), name="mixture")
    metric = METRICS.create("data_mixture")
    cpu, result = measure_cpu(lambda: metric.measure(AuditInput(vocabulary, other)))
    error = float(np.mean([(result.groups[n] - s) ** 2 for n, s in MIXTURE.items()]))
    uniform = float(np.mean([(1 / len(MIXTURE) - s) ** 2 for s in MIXTURE.values()]))
    add_goal(goals, "data mixture: squared error over uniform's", 1 / 30, error / uniform, "ratio")
    add_goal(goals, "data mixture: time", 60.0, cpu, "CPU-s")
    return {"found": result.groups, "true": MIXTURE, "seconds": cpu}


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    data = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    if not data.is_dir():
        sys.exit("the bench needs ../shared/data beside the checkout")
    goals: list[dict[str, Any]] = []
    report: dict[str, Any] = {"machine": platform.processor() or platform.machine()}
    report["speed"] = bench_speed(data, 1 if options.quick else 5, goals)
    report["dead"] = bench_dead(data, options.quick, goals)
    if find_spec("scipy") is not None:
        report["mixture"] = bench_mixture(data, 500_000 if options.quick else 2_000_000, goals)
    report["goals"] = goals
    if options.json:
        print(json.dumps(report, indent=1))
        return
    for row in goals:
        held = "holds" if row["holds"] else "FAILS"
        print(
            f"{held}  {row['name']}: {row['measured']:.4g} {row['unit']} (goal {row['goal']:.4g})"
        )
    for name, row in report["dead"].items():
        print(f"  {name}: {row['claimed']:,} called dead, {row['unknown']:,} unknown")


if __name__ == "__main__":
    main()
