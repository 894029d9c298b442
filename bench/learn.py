"""Benchmark of learn: CPU seconds and results beside the tokenizers library, in one run.

    python bench/learn.py [--json] [--quick] [--data ../shared/data] [--base tokenizer.json]

Code is Python's standard library, every tenth file held out; prose comes from the development data
beside the checkout. A goal whose data or peer is missing is reported as not holding.
"""

import argparse
import json
import os
import platform
import random
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"  # CPU time of one thread

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from jeton.core.vocabulary import Vocabulary, load_vocabulary
from jeton.learn.counts import count_pretokens, sample
from jeton.learn.engine import MergeEngine, Words
from jeton.learn.methods.bpe import Bpe
from jeton.learn.methods.extend import Extend
from jeton.learn.methods.superbpe import SECOND_PATTERN, SuperBpe
from jeton.learn.pretokenize import WORD_PATTERN, Pretokenizer
from jeton.learn.results import byte_order
from jeton.starter import library_bucket, library_files

REPOSITORY = Path(__file__).resolve().parent.parent
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def measure_cpu(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of one call and its result."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def add_goal(
    goals: list[dict[str, Any]], name: str, goal: float, measured: float, unit: str, holds: bool
) -> None:
    """Append one row of goals."""
    row = {"name": name, "goal": goal, "measured": round(measured, 4), "unit": unit}
    goals.append({**row, "holds": bool(holds)})


def train_peer(texts: list[str], vocab_size: int, pattern: str) -> Tokenizer:
    """Learn byte-level BPE with the tokenizers library."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=ALPHABET, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def merges_of(tokenizer_json: str) -> list[tuple[str, str]]:
    """Return the merges of a tokenizer.json."""
    return [(left, right) for left, right in json.loads(tokenizer_json)["model"]["merges"]]


def bench_random(num_corpora: int, goals: list[dict[str, Any]]) -> None:
    """Compare merges on random corpora, where ties and repeated bytes abound."""
    num_equal = 0
    for seed in range(num_corpora):
        rng = random.Random(seed)
        letters = rng.choice(["ab", "abc", "abcdefgh", "aé語b "])
        texts = [
            "".join(rng.choice(letters) for _ in range(rng.randint(1, 60))) for _ in range(100)
        ]
        peer = train_peer(texts, 256 + rng.randint(1, 120), WORD_PATTERN).to_str()
        size = len(json.loads(peer)["model"]["vocab"])
        ours = Bpe(spans="word").learn(texts, vocab_size=size).tokenizer_json
        num_equal += merges_of(ours) == merges_of(peer)
    share = num_equal / num_corpora
    add_goal(goals, "merges equal tokenizers on random corpora", 1, share, "share", share == 1)


def bench_bpe(texts: list[str], size: int, repeats: int, goals: list[dict[str, Any]]) -> dict:
    """Time learning afresh, interleaved with the library."""
    ours, theirs, counting, merging = [], [], [], []
    pretokenizer = Pretokenizer.from_pattern(WORD_PATTERN)
    byte_ids, tokens = byte_order([])
    learned = peer = None
    for _ in range(repeats):
        seconds, learned = measure_cpu(lambda: Bpe(spans="word").learn(texts, vocab_size=size))
        ours.append(seconds)
        seconds, peer = measure_cpu(lambda: train_peer(texts, size, WORD_PATTERN))
        theirs.append(seconds)
        seconds, counts = measure_cpu(lambda: count_pretokens(texts, pretokenizer))
        counting.append(seconds)

        def merge(counts: Any = counts) -> None:
            words = Words.from_bytes(counts.sorted_items(), byte_ids)
            MergeEngine(words, tokens, reapply=False).learn(size)

        merging.append(measure_cpu(merge)[0])
    assert learned is not None and peer is not None
    mine, other = merges_of(learned.tokenizer_json), merges_of(peer.to_str())
    equal = sum(a == b for a, b in zip(mine, other, strict=False)) / len(other)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    ratio = statistics.median(ours) / statistics.median(theirs)
    add_goal(goals, f"merges equal tokenizers on {megabytes:.0f} MB", 1, equal, "share", equal == 1)
    name = f"CPU time of bpe over tokenizers, {size} tokens, {megabytes:.0f} MB"
    add_goal(goals, name, 1 / 7, ratio, "ratio", ratio <= 1 / 7)
    return {
        "megabytes": megabytes,
        "bpe_cpu_s": ours,
        "tokenizers_cpu_s": theirs,
        "counting_cpu_s": counting,
        "merging_cpu_s": merging,
    }


def bench_extend(
    base: Vocabulary,
    train: list[str],
    held_out: list[str],
    sizes: list[int],
    goals: list[dict[str, Any]],
) -> dict:
    """Extend a base for Python code and measure on files that were not learned from."""

    def rate(vocabulary: Vocabulary) -> float:
        tokens = sum(map(len, vocabulary.encode_batch(held_out)))
        return sum(len(text.encode()) for text in held_out) / tokens

    before, found = rate(base), {}
    for size in sizes:
        seconds, learned = measure_cpu(
            lambda size=size: Extend().learn(train, base, base.vocab_size + size)
        )
        found[size] = {"cpu_s": seconds, "bytes_per_token": rate(learned.vocabulary())}
    gain = found[1024]["bytes_per_token"] / before
    name = "held-out code, bytes per token of extend with 1024 tokens over the base's"
    add_goal(goals, name, 1.25, gain, "ratio", gain >= 1.25)
    return {"base_bytes_per_token": before, "sizes": found}


def bench_superbpe(texts: list[str], size: int, goals: list[dict[str, Any]]) -> dict:
    """Compare SuperBPE with BPE of the same size on prose, and its time with the library's."""
    train, held_out = texts[:-2], texts[-2:]

    def count(vocabulary: Vocabulary) -> int:
        return sum(map(len, vocabulary.encode_batch(held_out)))

    plain = Bpe(spans="word").learn(train, vocab_size=size).vocabulary()
    seconds, learned = measure_cpu(
        lambda: SuperBpe(spans="word", transition=0.5, sample_bytes=0).learn(train, vocab_size=size)
    )
    fewer = 1 - count(learned.vocabulary()) / count(plain)
    add_goal(goals, f"fewer tokens than bpe on held-out prose, {size} tokens", 0.12, fewer,
             "share", fewer >= 0.12)  # fmt: skip
    part = sample(train, 1_000_000)
    ours, _ = measure_cpu(
        lambda: SuperBpe(spans="word", transition=0.0, max_words=0, sample_bytes=0).learn(
            part, vocab_size=2048
        )
    )
    theirs, _ = measure_cpu(lambda: train_peer(part, 2048, SECOND_PATTERN))
    add_goal(goals, "CPU time over tokenizers, same long spans, 1 MB", 0.1, ours / theirs,
             "ratio", ours / theirs <= 0.1)  # fmt: skip
    return {"superbpe_cpu_s": seconds, "long_spans_cpu_s": [ours, theirs], "fewer": fewer}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run every part and return the document."""
    goals: list[dict[str, Any]] = []
    warnings.simplefilter("ignore")
    # Compile and load before anything is timed.
    Bpe(spans="word").learn(["abc abd " * 140_000], vocab_size=258)
    bench_random(20 if arguments.quick else 300, goals)
    files = {name: path.read_text(encoding="utf-8") for name, path in library_files().items()}
    train = [text for name, text in files.items() if library_bucket(name)]
    held_out = [text for name, text in files.items() if not library_bucket(name)]
    measured: dict[str, Any] = {}
    part = sample(train, 4_000_000) if arguments.quick else train
    measured["bpe"] = bench_bpe(
        part, 8192 if arguments.quick else 32768, 1 if arguments.quick else 3, goals
    )
    sizes = [1024] if arguments.quick else [512, 768, 1024, 2048, 4096]
    measured["extend"] = bench_extend(
        load_vocabulary(arguments.base), train, held_out, sizes, goals
    )
    books = sorted((arguments.data / "corpora" / "en" / "gutenberg").glob("*.txt"))
    if books:
        texts = [book.read_text(encoding="utf-8") for book in books]
        if arguments.quick:
            texts = [text[:200_000] for text in texts]
        measured["superbpe"] = bench_superbpe(texts, 8192 if arguments.quick else 32768, goals)
    else:
        for name in ("fewer tokens than bpe on held-out prose", "CPU time over same long spans"):
            goals.append({"name": name, "goal": 0, "measured": None, "unit": "", "holds": False})
    return {
        "schema_version": 1,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "max_resident_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "measured": measured,
        "goals": goals,
    }


def main() -> None:
    """Parse the arguments and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="less text, one repeat")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--base", type=Path, default=REPOSITORY / "src/jeton/starter/target")
    arguments = parser.parse_args()
    document = run(arguments)
    if arguments.json:
        print(json.dumps(document, indent=2))
        return
    for row in document["goals"]:
        mark = "holds" if row["holds"] else "MISSED"
        print(f"{mark:7} {row['name']}: {row['measured']} {row['unit']} (goal {row['goal']})")


if __name__ == "__main__":
    main()
