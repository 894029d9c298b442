"""Benchmark of learn: CPU seconds and results beside the tokenizers library, in one run.

    python bench/learn.py [--json] [--quick] [--data ../shared/data] [--base tokenizer.json]
                          [--gigatoken .peers/bin/python]

Code is Python's standard library, every tenth file held out; prose comes from the development data
beside the checkout; the large texts are those two and the text files of installed packages,
shuffled. A row whose data or peer is missing, or that --quick leaves out, has no figure.
`make bench-learn` makes the environment of gigatoken and runs everything.
"""

import argparse
import hashlib
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"  # CPU time of one thread

import numpy as np
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from jeton.core.encode import byte_level_to_bytes
from jeton.core.joining import join_pairs, joins_of
from jeton.core.vocabulary import Vocabulary, load_vocabulary
from jeton.learn.counts import count_pretokens, sample
from jeton.learn.methods.bpe import Bpe
from jeton.learn.methods.extend import Extend
from jeton.learn.methods.superbpe import SuperBpe
from jeton.learn.pretokenize import ACROSS_PATTERN, WORD_PATTERN, Pretokenizer
from jeton.learn.registry import LEARNERS
from jeton.learn.segmenters.equal_info import ByteModel
from jeton.learn.segmenters.stochastok import Stochastok
from jeton.learn.splits import token_splits
from jeton.starter import library_bucket, library_files

REPOSITORY = Path(__file__).resolve().parent.parent
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def measure_cpu(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of one call and its result."""
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def add_goal(
    goals: list[dict[str, Any]],
    name: str,
    goal: float,
    measured: float | None,
    unit: str,
    holds: bool | None,
) -> None:
    """Append one row of goals; a row without a figure neither holds nor fails."""
    row = {"name": name, "goal": round(goal, 4), "unit": unit}
    if measured is None:
        goals.append({**row, "measured": None, "holds": None})
        return
    goals.append({**row, "measured": round(measured, 4), "holds": bool(holds)})


def train_peer(texts: Iterable[str], vocab_size: int, pattern: str) -> Tokenizer:
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


class FileTexts:
    """Documents of a file, read anew each time."""

    def __init__(self, path: Path, size: int = 200_000) -> None:
        self._path, self._size = path, size

    def __iter__(self) -> Iterator[str]:
        with self._path.open(encoding="utf-8", newline="") as file:
            while lines := file.readlines(self._size):
                yield "".join(lines)


def gather_text(path: Path, num_bytes: int, data: Path) -> None:
    """Write about so many bytes of the text on this machine, files in a seeded order."""
    roots = [Path(sysconfig.get_paths()["stdlib"]), data / "corpora"]
    roots += [Path(sysconfig.get_paths()["purelib"]), Path("/usr/share"), Path("/usr/include")]
    kinds = {".py", ".pyi", ".txt", ".md", ".rst", ".tsv", ".h", ".hpp", ".c", ".js", ".html"}
    found = sorted({p.resolve() for r in roots for p in r.rglob("*") if p.suffix in kinds})
    random.Random(0).shuffle(found)
    written, turn = 0, 0
    with path.open("w", encoding="utf-8", newline="") as out:
        while written < num_bytes and found:
            for file in found:
                try:
                    text = file.read_text(encoding="utf-8")
                except (OSError, UnicodeDecodeError):
                    continue
                if not 50 < len(text) < 5_000_000:
                    continue
                if turn:  # too little text on this machine: the same lines in another order
                    lines = text.splitlines(keepends=True)
                    text = "".join(random.Random(turn).sample(lines, len(lines)))
                out.write(text[: num_bytes - written])
                written += len(text[: num_bytes - written].encode())
                if written >= num_bytes:
                    return
            turn += 1


def child(kind: str, path: Path, size: int) -> None:
    """Learn in this process and print CPU seconds, memory and a hash of the merges."""
    texts = FileTexts(path)
    spans = "gpt2" if kind == "ours-gpt2" else "word"
    if kind.startswith("ours"):  # compiled code is loaded before anything is timed
        Bpe(spans=spans).learn(["abc abd " * 140_000], vocab_size=258)
        seconds, learned = measure_cpu(lambda: Bpe(spans=spans).learn(texts, vocab_size=size))
        merges = merges_of(learned.tokenizer_json)
    else:
        seconds, peer = measure_cpu(lambda: train_peer(texts, size, WORD_PATTERN))
        merges = merges_of(peer.to_str())
    digest = hashlib.sha256(json.dumps(merges).encode()).hexdigest()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu_s": seconds, "mb": memory, "merges": digest}))


_GIGATOKEN = """
import json, sys, time, gigatoken
start = time.process_time()
gigatoken.train_bpe(sys.argv[1], int(sys.argv[2]), [])
print(json.dumps({"cpu_s": time.process_time() - start}))
"""


def in_child(command: list[str]) -> dict[str, Any]:
    """Run a process of its own and return the document on its last line."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    document: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return document


def bench_large(
    megabytes: int, size: int, repeats: int, arguments: argparse.Namespace, goals: list
) -> dict[str, Any]:
    """Compare learning in processes of their own, interleaved: time, memory, merges."""
    names = (
        f"merges equal tokenizers on {megabytes} MB",
        f"CPU time of bpe over tokenizers, {size} tokens, {megabytes} MB",
        f"resident memory over tokenizers, {megabytes} MB",
        f"CPU time of bpe over gigatoken, {size} tokens, {megabytes} MB",
    )
    if not repeats:
        for name, goal in zip(names, (1, 1 / 7, 2, 1.25), strict=True):
            add_goal(goals, name, goal, None, "ratio", None)
        return {}
    runs: dict[str, list[dict[str, Any]]] = {"ours": [], "tokenizers": [], "ours-gpt2": []}
    runs["gigatoken"] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        gather_text(path, megabytes * 1_000_000, arguments.data)
        for _ in range(repeats):
            for kind in ("ours", "tokenizers", *(["ours-gpt2"] if arguments.gigatoken else [])):
                command = [sys.executable, __file__, "--child", kind, str(path), str(size)]
                runs[kind].append(in_child(command))
            if arguments.gigatoken:
                command = [str(arguments.gigatoken), "-c", _GIGATOKEN, str(path), str(size)]
                runs["gigatoken"].append(in_child(command))

    def median(kind: str, key: str) -> float:
        return statistics.median(run[key] for run in runs[kind])

    equal = runs["ours"][0]["merges"] == runs["tokenizers"][0]["merges"]
    add_goal(goals, names[0], 1, float(equal), "share", equal)
    ratio = median("ours", "cpu_s") / median("tokenizers", "cpu_s")
    add_goal(goals, names[1], 1 / 7, ratio, "ratio", ratio <= 1 / 7)
    memory = median("ours", "mb") / median("tokenizers", "mb")
    add_goal(goals, names[2], 2, memory, "ratio", memory <= 2)
    if runs["gigatoken"]:
        ratio = median("ours-gpt2", "cpu_s") / median("gigatoken", "cpu_s")
        add_goal(goals, names[3], 1.25, ratio, "ratio", ratio <= 1.25)
    else:
        add_goal(goals, names[3], 1.25, None, "ratio", None)
    return runs


def bench_segmenters(vocabulary: Vocabulary, text: str, goals: list[dict[str, Any]]) -> None:
    """Compare StochasTok and dynamic merges with the loops that their papers describe."""
    ids = vocabulary.encode(text)
    ids = (ids * (100_000 // len(ids) + 1))[:100_000]
    begins, left, right = splits = token_splits(vocabulary)
    method, array = Stochastok(), np.array(ids, dtype=np.int64)
    method.cut(array, splits, np.random.default_rng(0))
    times = [measure_cpu(lambda k=k: method.cut(array, splits, np.random.default_rng(k)))[0]
             for k in range(9)]  # fmt: skip
    share, draw = 0.02, random.Random(0)  # a fifth of the attempts, the time of all

    def published() -> None:
        current = list(ids)
        for _ in range(int(share * len(ids))):
            at = draw.randrange(len(current))
            ways = range(begins[current[at]], begins[current[at] + 1])
            if ways:
                way = draw.choice(ways)
                new = [int(left[way]), int(right[way])]
                current = current[:at] + new + current[at + 1 :]

    slow = measure_cpu(published)[0] * method.share / share
    ratio = slow / statistics.median(times)
    add_goal(goals, "stochastok over the published loop, 100k tokens", 1000, ratio, "times",
             ratio >= 1000)  # fmt: skip
    batch = [array[k * 2048 : (k + 1) * 2048] for k in range(8)]
    joins = joins_of(vocabulary, "word")
    join_pairs(batch, joins, 200)
    times = [measure_cpu(lambda: join_pairs(batch, joins, 200))[0] for _ in range(9)]
    found, _ = join_pairs(batch, joins, 200)
    slow, wanted = measure_cpu(lambda: dynamic_loop([b.tolist() for b in batch], joins.tolist()))
    ratio = slow / statistics.median(times)
    equal = [ids.tolist() for ids in found] == wanted
    add_goal(goals, "dynamic over the published loop, same output, 8 x 2048 tokens", 100,
             ratio if equal else 0.0, "times", equal and ratio >= 100)  # fmt: skip


def dynamic_loop(batch: list[list[int]], joins: list[int], num_merges: int = 200) -> list:
    """Count all valid pairs anew and join the first most frequent one, as the paper describes."""
    for _ in range(num_merges):
        counts: Counter[tuple[int, int]] = Counter()
        for ids in batch:
            for pair in pairwise(ids):
                if joins[pair[0]] and joins[pair[1]] == 1:
                    counts[pair] += 1
        if not counts or max(counts.values()) < 2:
            break
        best = max(counts, key=lambda pair: counts[pair])
        for k, ids in enumerate(batch):
            joined, i = [], 0
            while i < len(ids):
                if i + 1 < len(ids) and (ids[i], ids[i + 1]) == best:
                    joined.append(len(joins))
                    i += 2
                else:
                    joined.append(ids[i])
                    i += 1
            batch[k] = joined
        joins.append(joins[best[0]])
    return batch


def bench_directions(
    train: list[str], held_out: list[str], size: int, goals: list[dict[str, Any]]
) -> dict:
    """Show the direction that four papers claim, on prose held out from learning."""
    num_bytes = sum(len(text.encode()) for text in held_out)

    def learned(name: str) -> Vocabulary:
        return LEARNERS.create(name).learn(train, vocab_size=size).vocabulary()

    def count(vocabulary: Vocabulary) -> int:
        return sum(map(len, vocabulary.encode_batch(held_out)))

    def stays(vocabulary: Vocabulary) -> float:
        """Share of the borders between tokens that a wrong letter in each long word leaves."""
        kept = total = 0
        for text in (line for t in held_out for line in t[:100_000].splitlines() if line):
            words = text.split(" ")
            wrong = " ".join(
                w[:2] + "q" + w[3:] if len(w) > 4 and w.isascii() else w for w in words
            )
            borders = [
                set(np.cumsum([len(vocabulary.tokens[i]) for i in vocabulary.encode(t)]).tolist())
                for t in (text, wrong)
            ]
            kept, total = kept + len(borders[0] & borders[1]), total + len(borders[0] | borders[1])
        return kept / total

    bpe = learned("bpe")
    base = count(bpe)
    gain = stays(learned("kl3m_char")) - stays(bpe)
    add_goal(goals, "character tokenizer: share of borders kept under wrong letters, above bpe",
             0.0, gain, "share", gain > 0)  # fmt: skip
    for name in ("lib", "supertokens"):
        fewer = 1 - count(learned(name)) / base
        add_goal(goals, f"{name}: fewer tokens than bpe of {size}, held-out prose", 0.0, fewer,
                 "share", fewer > 0)  # fmt: skip
    model = ByteModel.fit("".join(train).encode())
    data = "".join(held_out).encode()
    words = model.encode(data)
    ratio = base / len(words) if model.decode(words) == data else 0.0
    add_goal(goals, f"equal-info windows of 16 bits: tokens of bpe ({size}) over windows, exact",
             1.0, ratio, "times", ratio > 1)  # fmt: skip
    return {"bpe_bytes_per_token": num_bytes / base, "window_bytes": len(data) / len(words)}


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


def bench_superbpe(
    train: list[str], held_out: list[str], size: int, goals: list[dict[str, Any]]
) -> dict:
    """Compare SuperBPE with BPE of the same size on prose, and its time with the library's."""

    def count(vocabulary: Vocabulary) -> int:
        return sum(map(len, vocabulary.encode_batch(held_out)))

    method = SuperBpe(spans="word", transition=0.5, sample_bytes=0)
    plain = Bpe(spans="word").learn(train, vocab_size=size).vocabulary()
    learned = method.learn(train, vocab_size=size)
    fewer = 1 - count(learned.vocabulary()) / count(plain)
    add_goal(goals, f"superbpe: fewer tokens than bpe on held-out prose, {size} tokens", 0.12,
             fewer, "share", fewer >= 0.12)  # fmt: skip
    part = sample(train, 2_000_000 if size < 32768 else 10_000_000)
    learn = SuperBpe(spans="word", transition=0.5, max_words=0, sample_bytes=0).learn
    learn(part[:1], vocab_size=300)
    ours, _ = measure_cpu(lambda: learn(part, vocab_size=size))
    theirs, _ = measure_cpu(lambda: train_peer(part, size, ACROSS_PATTERN))
    megabytes = sum(map(len, part)) / 1e6
    add_goal(goals, "superbpe: CPU time of both stages over tokenizers on the long spans, "
             f"{megabytes:.0f} MB", 0.1, ours / theirs, "ratio", ours / theirs <= 0.1)  # fmt: skip
    oracle = oracle_merges(part[:40], 1024)
    own = merges_of(learn(part[:40], vocab_size=1024).tokenizer_json)[-len(oracle) :]
    equal = oracle == [tuple(map(byte_level_to_bytes, pair)) for pair in own]
    add_goal(goals, "superbpe: second stage equals the private-use oracle", 1, float(equal),
             "share", equal)  # fmt: skip
    return {"long_spans_cpu_s": [ours, theirs], "fewer": fewer}


def oracle_merges(texts: list[str], size: int) -> list[tuple[bytes, ...]]:
    """Return what the library learns over tokens of the first stage as private-use characters."""
    num_first = int(0.5 * (size - 256))
    first = Bpe(spans="word").learn(texts, vocab_size=256 + num_first)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    document = json.loads(first.tokenizer_json)
    document["pre_tokenizer"] = {**byte_level, "use_regex": False}
    stage_one = Vocabulary.from_tokenizer_json(document)
    spans = count_pretokens(texts, Pretokenizer.from_pattern(ACROSS_PATTERN)).counts
    corpus = [
        "".join(chr(0xE000 + i) for i in stage_one.encode(span))
        for span, count in spans.items()
        for _ in range(count)
    ]
    alphabet = [chr(0xE000 + i) for i in range(stage_one.vocab_size)]
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer)
    names = stage_one.tokens
    return [
        tuple(b"".join(names[ord(c) - 0xE000] for c in part) for part in pair)
        for pair in merges_of(tokenizer.to_str())
    ]


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
    quick = arguments.quick
    measured["30 MB"] = bench_large(30, 32768, 0 if quick else 3, arguments, goals)
    measured["300 MB"] = bench_large(300, 65536, 0 if quick else 1, arguments, goals)
    if quick:
        measured["3 MB"] = bench_large(3, 8192, 1, arguments, [])  # the goals are for more
    sizes = [1024] if arguments.quick else [512, 768, 1024, 2048, 4096]
    measured["extend"] = bench_extend(
        load_vocabulary(arguments.base), train, held_out, sizes, goals
    )
    base = load_vocabulary(arguments.base)
    bench_segmenters(base, max(held_out, key=len), goals)
    books = sorted((arguments.data / "corpora" / "en").rglob("*.txt"))
    if books:
        # Every tenth block of 20,000 characters is held out.
        size = 20_000
        texts = [book.read_text(encoding="utf-8")[: 60_000 if quick else None] for book in books]
        blocks = [[t[i : i + size] for i in range(0, len(t), size)] for t in texts]
        learn = [b for part in blocks for k, b in enumerate(part) if k % 10 != 9 - 7 * quick]
        rest = [b for part in blocks for k, b in enumerate(part) if k % 10 == 9 - 7 * quick]
        vocab_size = 8192 if quick else 32768
        measured["superbpe"] = bench_superbpe(learn, rest, vocab_size, goals)
        measured["directions"] = bench_directions(
            sample(learn, 2_000_000), rest, 2048 if quick else 4096, goals
        )
    else:
        for name in ("superbpe: fewer tokens than bpe on held-out prose", "superbpe: CPU time",
                     "superbpe: oracle", "character tokenizer", "lib", "supertokens",
                     "equal-info windows"):  # fmt: skip
            add_goal(goals, name, 0, None, "", None)
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
    parser.add_argument("--gigatoken", type=Path, help="python of an environment that has it")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--base", type=Path, default=REPOSITORY / "src/jeton/starter/target")
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], Path(arguments.child[1]), int(arguments.child[2]))
        return
    if arguments.gigatoken is None and (REPOSITORY / ".peers" / "bin" / "python").is_file():
        arguments.gigatoken = REPOSITORY / ".peers" / "bin" / "python"
    document = run(arguments)
    if arguments.json:
        print(json.dumps(document, indent=2))
        return
    for row in document["goals"]:
        mark = {True: "holds", False: "MISSED", None: "-"}[row["holds"]]
        print(f"{mark:7} {row['name']}: {row['measured']} {row['unit']} (goal {row['goal']})")


if __name__ == "__main__":
    main()
