"""Benchmark of core: how fast and exact `Vocabulary` is, beside the tokenizers library itself.

    python bench/core.py [--json] [--quick] [--data ../shared/data]

Needs the development data beside the checkout; goals that need a missing file do not hold.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
VECTORS = {
    "gpt-2": "gpt2",
    "phi-3": "phi-3",
    "deepseek-coder": "deepseek-coder",
    "starcoder": "starcoder",
    "qwen2": "qwen2",
    "bert-bge": "bert-base-uncased",
    "gpt-4o": "o200k_base",
}
OURS = "from jeton.core.vocabulary import load_vocabulary as load"
THEIRS = "from tokenizers import Tokenizer; load = Tokenizer.from_file"
# run in a fresh process: memory that an earlier load left would hide the cost of the next
LOAD = """
import json, sys, time
{load}
def resident():
    pages = int(open("/proc/self/statm").read().split()[1])
    return pages * __import__("os").sysconf("SC_PAGE_SIZE") / 1e6
before, cpu, wall = resident(), time.process_time(), time.perf_counter()
kept = load(sys.argv[1])
found = {{"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall,
         "memory_mb": resident() - before}}
kept.encode("a")
found["cpu_s_to_first_encode"] = time.process_time() - cpu
found["memory_mb_after_first_encode"] = resident() - before
print(json.dumps(found))
"""


def measure_load(path: Path, load: str) -> dict[str, float]:
    """Return CPU seconds, wall seconds and resident megabytes of one load in a fresh process."""
    code = LOAD.format(load=load)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def measure_cpu(function: Callable[[], object]) -> float:
    """Return the CPU seconds of one call, all threads together."""
    start = time.process_time()
    function()
    return time.process_time() - start


def spread(values: list[float]) -> dict[str, float]:
    """Return median, min, max and count."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


def bench_loading(data: Path, repeats: int, goals: list[dict[str, Any]]) -> dict[str, Any]:
    """Load 200k-token vocabularies in fresh processes, interleaved with the library's own load."""
    ours: dict[str, list[dict[str, float]]] = {"o200k_base": [], "superbpe-olmo2-t180k": []}
    theirs: list[dict[str, float]] = []
    for _ in range(repeats):
        for name, runs in ours.items():
            path = data / "tokenizers" / name
            runs.append(measure_load(path, OURS))
        peer = data / "tokenizers" / "superbpe-olmo2-t180k" / "tokenizer.json"
        theirs.append(measure_load(peer, THEIRS))
    result: dict[str, Any] = {}
    for name, runs in {**ours, "tokenizers library, superbpe-olmo2-t180k": theirs}.items():
        result[name] = {key: spread([run[key] for run in runs]) for key in runs[0]}
    for name in ours:
        cpu, memory = result[name]["cpu_s"]["median"], result[name]["memory_mb"]["median"]
        add_goal(goals, f"load Vocabulary of {name}", 1.0, cpu, "CPU-s", cpu <= 1.0)
        add_goal(goals, f"memory of Vocabulary of {name}", 100.0, memory, "MB", memory <= 100.0)
    return result


def add_goal(
    goals: list[dict[str, Any]], name: str, goal: float, measured: float, unit: str, holds: bool
) -> None:
    """Append one row of goals."""
    row = {"name": name, "goal": goal, "measured": round(measured, 3), "unit": unit}
    goals.append({**row, "holds": bool(holds)})


def bench_exactness(data: Path, goals: list[dict[str, Any]]) -> dict[str, Any]:
    """Load all shared tokenizers and reproduce the llama.cpp vectors."""
    from jeton.core.vocabulary import load_vocabulary

    rows = json.loads((data / "tokenizers" / "index.json").read_text(encoding="utf-8"))[
        "tokenizers"
    ]
    vocabularies = {row["path"].split("/")[-1]: load_vocabulary(data / row["path"]) for row in rows}
    add_goal(
        goals,
        "shared tokenizers load",
        len(rows),
        len(vocabularies),
        "tokenizers",
        len(vocabularies) == len(rows) >= 17,
    )
    wrong: dict[str, int] = {}
    for name, tokenizer in VECTORS.items():
        base = data / "tokenizer_vectors"
        lines = (base / f"ggml-vocab-{name}.gguf.out").read_text(encoding="utf-8").splitlines()
        whole = (base / f"ggml-vocab-{name}.gguf.inp").read_bytes().decode()
        texts = whole.split("\n__ggml_vocab_test__\n")[: len(lines)]
        vocabulary = vocabularies[tokenizer]
        wrong[name] = sum(
            vocabulary.encode_lossy(text) != [int(token_id) for token_id in line.split()]
            for text, line in zip(texts, lines, strict=True)
        )
    exact = sum(not count for count in wrong.values())
    add_goal(
        goals, "llama.cpp vector sets exact", len(VECTORS), exact, "sets", exact == len(VECTORS)
    )
    return {"wrong_texts": wrong}


def bench_encoding(data: Path, repeats: int, num_bytes: int) -> dict[str, Any]:
    """Encode English prose with ours and with the library alone, interleaved."""
    from tokenizers import Tokenizer

    from jeton.core.byte_index import ByteIndex
    from jeton.core.vocabulary import load_vocabulary

    text = (data / "corpora/en/tinyshakespeare.txt").read_text(encoding="utf-8")[:num_bytes]
    texts = text.split("\n\n")
    size = sum(len(one.encode()) for one in texts)
    result: dict[str, Any] = {}
    for name in ("gpt2", "mistral-v1"):
        folder = data / "tokenizers" / name
        vocabulary = load_vocabulary(folder)
        library = Tokenizer.from_file(str(folder / "tokenizer.json"))
        vocabulary.encode(texts[0])
        ours, theirs = [], []
        for _ in range(repeats):
            ours.append(size / measure_cpu(lambda: vocabulary.encode_batch(texts)))  # noqa: B023
            theirs.append(
                size / measure_cpu(lambda: library.encode_batch(texts, add_special_tokens=False))  # noqa: B023
            )
        result[name] = {"jeton_bytes_per_cpu_s": spread(ours), "tokenizers": spread(theirs)}
    vocabulary = load_vocabulary(data / "tokenizers" / "o200k_base")
    index = [measure_cpu(lambda: ByteIndex(vocabulary)) for _ in range(repeats)]
    result["ByteIndex of o200k_base, CPU-s"] = spread(index)
    return result


def main() -> None:
    """Run the benchmark and print one document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f"no data at {options.data}")
    goals: list[dict[str, Any]] = []
    repeats, num_bytes = (3, 200_000) if options.quick else (7, 1_000_000)
    document = {
        "bench": "core",
        "machine": {"cpus": os.cpu_count(), "system": platform.platform(terse=True)},
        "loading": bench_loading(options.data, repeats, goals),
        "exactness": bench_exactness(options.data, goals),
        "encoding": bench_encoding(options.data, repeats, num_bytes),
        "goals": goals,
    }
    index_s = document["encoding"]["ByteIndex of o200k_base, CPU-s"]["median"]  # type: ignore[index]
    add_goal(goals, "ByteIndex of o200k_base", 0.4, index_s, "CPU-s", index_s <= 0.4)
    if options.json:
        print(json.dumps(document, indent=2))
        return
    for part in ("loading", "exactness", "encoding"):
        print(f"{part}: {json.dumps(document[part], indent=2)}")
    for row in goals:
        sign = "holds" if row["holds"] else "FAILS"
        print(f"{sign}  {row['name']}: {row['measured']} {row['unit']} (goal {row['goal']})")


if __name__ == "__main__":
    main()
