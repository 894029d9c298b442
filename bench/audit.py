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

from jeton.audit.contexts import all_characters, contexts
from jeton.audit.encoding import encode_all
from jeton.audit.evidence import AuditInput
from jeton.audit.reachability import Reach, find_reachability
from jeton.audit.registry import METRICS
from jeton.audit.run import audit
from jeton.core.vocabulary import Vocabulary, load_vocabulary
from jeton.starter import starter_path

QUICK = ("gpt2", "kl3m-004-char-4k-cased", "mistral-v1", "sentencepiece-test-en")
MIXTURE = {"en": 0.33, "code": 0.14, "pt": 0.15, "ja": 0.28, "fi": 0.10}


def measure_cpu(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return CPU seconds and the result."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def add_goal(
    goals: list[dict[str, Any]], name: str, goal: float, measured: float | None, unit: str
) -> None:
    """Note a goal that holds when the measured figure is at most the goal."""
    row = {"name": name, "goal": goal, "measured": measured, "unit": unit}
    goals.append({**row, "holds": None if measured is None else measured <= goal})


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


def count_false_claims(folder: Path, data: Path) -> dict[str, int]:
    """Return how many ids are claimed to be what, and how many of the claims are wrong.

    Every id called dead is searched for in texts around its bytes and in the corpora; for every id
    called reachable the text that was given is encoded.
    """
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
    texts += ["\n".join(all_characters()), " ".join(all_characters())]
    for token_id in np.flatnonzero(claimed).tolist():
        if vocabulary.tokens[token_id]:
            texts += [t for i in range(26) for t in contexts(vocabulary.tokens[token_id], i)]
    seen = np.unique(np.concatenate(encode_all(vocabulary, texts)))
    reached = found.ids(Reach.REACHABLE)
    origins = list(dict.fromkeys(found.origins.values()))
    encodings = encode_all(vocabulary, [o[0].join(o[1:]) for o in origins])
    ids_of = {o: set(ids.tolist()) for o, ids in zip(origins, encodings, strict=True)}
    unproven = sum(i not in ids_of[found.origins[i]] for i in reached)
    return {
        "dead": int(claimed.sum()),
        "false dead": int(claimed[seen].sum()),
        "reachable": len(reached),
        "false reachable": unproven,
        "unknown": found.count(Reach.UNKNOWN),
    }


def bench_dead(data: Path, quick: bool, goals: list[dict[str, Any]]) -> dict[str, Any]:
    """Look for texts that contain a token called dead, and check those of reachable ones."""
    folders = [path for path in sorted((data / "tokenizers").iterdir()) if path.is_dir()]
    chosen = [path for path in folders if not quick or path.name in QUICK]
    found = {path.name: count_false_claims(path, data) for path in chosen}
    for what in ("false dead", "false reachable", "unknown"):
        number = sum(row[what] for row in found.values())
        add_goal(goals, f"{what} over {len(found)} tokenizers", 0.0, float(number), "ids")
    return found


def bench_mixture(data: Path, num_bytes: int, goals: list[dict[str, Any]]) -> dict[str, Any]:
    """Train a tokenizer on a known mixture of five categories and infer it from other text."""
    corpora = data / "corpora"
    paths = {
        "en": [corpora / "en" / "us_state_union.txt", *sorted((corpora / "en").glob("*/*.txt"))],
        "code": [data / "code" / "mbpp_shared.jsonl", data / "code" / "HumanEval.jsonl"],
        "pt": sorted((corpora / "pt").iterdir()),
        "ja": [corpora / "ja" / "wagahaiwa_nekodearu.txt"],
        "fi": [corpora / "fi" / "kalevala_runot_01-40.txt"],
    }
    texts = {n: "".join(p.read_text(encoding="utf-8") for p in own) for n, own in paths.items()}
    lines = {name: text.splitlines(keepends=True) for name, text in texts.items()}
    generator = random.Random(0)
    for part in lines.values():  # so that both halves have the same distribution
        generator.shuffle(part)
    train = {name: "".join(part[::2]) for name, part in lines.items()}
    other = {
        name: ["".join(part[1::2]).encode()[: num_bytes // 5].decode(errors="ignore")]
        for name, part in lines.items()
    }
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
    ratio = uniform / error if error else float("inf")
    return {"found": result.groups, "true": MIXTURE, "seconds": cpu, "times better": ratio}


def bench_peer(goals: list[dict[str, Any]]) -> dict[str, float]:
    """Compare with tokenization-scorer on one text; how: `pip install --no-deps` into any folder
    on PYTHONPATH.
    """
    if find_spec("tokenization_scorer") is None:
        add_goal(goals, "Renyi efficiency against tokenization-scorer", 1e-9, None, "difference")
        return {}
    import tokenization_scorer

    vocabulary = load_vocabulary(starter_path("starter"))
    text = Path(__file__).read_text(encoding="utf-8")
    given = AuditInput(vocabulary, {"text": [text]})
    ours = METRICS.create("renyi_efficiency").measure(given).value
    tokens = [[str(i) for i in vocabulary.encode(text)]]
    size = len(given.text_ids)
    theirs = tokenization_scorer.score(tokens, metric="renyi_efficiency", power=2.5, vocab=size)
    add_goal(
        goals,
        "Renyi efficiency against tokenization-scorer",
        1e-9,
        abs(ours - float(theirs)),
        "difference",
    )
    return {"theirs": float(theirs), "ours": ours}


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
    report["speed"] = bench_speed(data, 2 if options.quick else 5, goals)
    report["dead"] = bench_dead(data, options.quick, goals)
    report["mixture"] = bench_mixture(data, 2_000_000 if options.quick else 10_000_000, goals)
    report["peer"] = bench_peer(goals)
    report["goals"] = goals
    if options.json:
        print(json.dumps(report, indent=1))
        return
    for row in goals:
        held = {True: "holds", False: "FAILS", None: "not measured"}[row["holds"]]
        measured = "-" if row["measured"] is None else f"{row['measured']:.4g}"
        print(f"{held}  {row['name']}: {measured} {row['unit']} (goal {row['goal']:.4g})")
    for name, row in report["dead"].items():
        print(f"  {name}: {row['dead']:,} dead, {row['reachable']:,} reachable")


if __name__ == "__main__":
    main()
