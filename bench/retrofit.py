"""Bench of the main job: the starter model moved onto Python code, beside `generate`, xz and PPM.

python bench/retrofit.py [--json] [--quick] [--minutes M] [--general PATH ...] [--books PATH ...]

Without --books the general figures are those of the prose sample that ships with jeton. The demo's
own time and memory are measured in a process of its own. PPM needs `pip install pyppmd`.
"""

import argparse
import json
import lzma
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from jeton.core.progress import NO_PROGRESS, Bars
from jeton.decoding.contract import Drafter
from jeton.decoding.prompt import prompt_ids
from jeton.decoding.registry import DRAFTERS
from jeton.decoding.replay import replay
from jeton.lm.bits import bits_per_byte
from jeton.lm.load import LanguageModel, load_model
from jeton.lm.pack import packed
from jeton.retrofit.demo import demo_config
from jeton.retrofit.pipeline import resume, retrofit
from jeton.retrofit.speed import excerpts
from jeton.retrofit.texts import Texts, gather

SCHEMA_VERSION = 1
NEW_TOKENS = 96
DRAFTERS_TIMED = ("prompt_lookup", "lookahead", "merge")  # bench/decoding.py times them all


def goal(name: str, bound: str, measured: float, unit: str, holds: bool) -> dict[str, Any]:
    """Return one row."""
    return {"name": name, "goal": bound, "measured": measured, "unit": unit, "holds": holds}


def hf_bytes_per_second(lm: LanguageModel, pairs: list[tuple[str, str]]) -> float:
    """Speed of transformers' `generate` on the source, in bytes of the same held-out text.

    Its time per token does not depend on the text, so tokens are counted and turned into bytes by
    the source's bytes per token on the continuation.
    """
    num_bytes, seconds = 0.0, 0.0
    for prompt, continuation in pairs:
        ids = torch.tensor([prompt_ids(lm, prompt)])
        per_token = len(continuation.encode()) / len(lm.vocabulary.encode(continuation))
        mask = torch.ones_like(ids)
        times = []
        for new in (1, NEW_TOKENS):  # the difference leaves the prefill out
            started = time.perf_counter()
            lm.model.generate(
                ids,
                attention_mask=mask,
                do_sample=False,
                max_new_tokens=new,
                min_new_tokens=new,
                pad_token_id=0,
            )
            times.append(time.perf_counter() - started)
        num_bytes += (NEW_TOKENS - 1) * per_token
        seconds += times[1] - times[0]
    return num_bytes / seconds


def ours_bytes_per_second(
    lm: LanguageModel, pairs: list[tuple[str, str]], drafter: Drafter | None, length: int
) -> float:
    """Speed of our loop on the same held-out text, forced to the text itself."""
    num_bytes, seconds = 0, 0.0
    for prompt, continuation in pairs:
        ids = prompt_ids(lm, prompt + continuation)[: lm.max_length]
        figures = replay(
            lm,
            ids,
            num_prompt_tokens=min(len(prompt_ids(lm, prompt)), len(ids) - 2),
            drafter=drafter,
            num_draft_tokens=length,
        )
        num_bytes += figures.num_bytes
        seconds += figures.seconds
    return num_bytes / seconds


def speed_table(
    source: LanguageModel,
    destination: LanguageModel,
    texts: Texts,
    rounds: int,
    lengths: tuple[int, ...],
) -> dict[str, float]:
    """Return bytes per second of every loop, interleaved; medians."""
    pairs = excerpts(texts.held_out, 6)
    sides = {"source": source, "destination": destination}
    loops: dict[str, list[float]] = {}
    for _ in range(rounds):
        loops.setdefault("source, generate of transformers", []).append(
            hf_bytes_per_second(source, pairs)
        )
        for name, lm in sides.items():
            with packed(lm.model):
                loops.setdefault(f"{name}, jeton, plain", []).append(
                    ours_bytes_per_second(lm, pairs, None, 0)
                )
                for drafter in DRAFTERS_TIMED:
                    for length in lengths:
                        loops.setdefault(f"{name}, jeton, {drafter}, {length} nodes", []).append(
                            ours_bytes_per_second(lm, pairs, DRAFTERS.create(drafter), length)
                        )
    return {name: median(values) for name, values in loops.items()}


def compressors(data: bytes) -> dict[str, float]:
    """Return bits per byte of xz and of an order-5 PPM on the same text."""
    found = {"xz -9e": 8 * len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) / len(data)}
    try:
        import pyppmd
    except ImportError:
        print("pyppmd is not installed: PPM is left out", file=sys.stderr)
        return found
    encoder = pyppmd.Ppmd7Encoder(5, 1 << 28)
    found["PPM order 5"] = 8 * len(encoder.encode(data) + encoder.flush()) / len(data)
    return found


def demo_cost(folder: Path) -> dict[str, float]:
    """Return wall seconds and peak memory of `jeton demo` in a process of its own."""
    started = time.perf_counter()
    command = "from jeton.cli import main; main()"
    subprocess.run(
        [sys.executable, "-c", command, "demo", "--out", str(folder / "demo"), "--quiet"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {"seconds": time.perf_counter() - started, "peak_bytes": peak}


def starter_rows(
    lm: LanguageModel, english: list[str], python: list[str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Compare the starter model with compressors on text that it has never seen."""
    rows, table = [], {}
    for name, documents in (("English", english), ("Python", python)):
        figure = bits_per_byte(lm, documents).bits_per_byte
        others = compressors("\n".join(documents).encode())
        table[name] = {"starter": figure, **others}
        for other, bits in others.items():
            bound = f"< {bits:.4f} ({other})"
            rows.append(goal(f"starter, unseen {name}", bound, figure, "bits/byte", figure < bits))
    return rows, table


def main() -> None:
    """Run the job, print the goals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    parser.add_argument("--minutes", type=float, default=10.0, help="of healing")
    parser.add_argument("--steps", type=int, default=-1, help="of healing, instead of --minutes")
    parser.add_argument("--init", default="auto", help="how new rows start")
    parser.add_argument("--set", nargs="*", default=[], help="method.field=value")
    parser.add_argument("--general", type=Path, nargs="*", default=[], help="replay text")
    parser.add_argument("--books", type=Path, nargs="*", default=[], help="unseen English text")
    parser.add_argument("--out", type=Path, help="keep the run here; a run is resumed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        document = run(args, Path(scratch))
    if args.json:
        print(json.dumps(document, indent=2))
        return
    for section in ("starter", "bytes_per_second"):
        print(f"{section}: {json.dumps(document[section], indent=2)}")
    for row in document["goals"]:
        sign = "holds" if row["holds"] else "FAILS"
        print(f"{sign}  {row['name']}: {row['measured']:.4g} {row['unit']} (goal {row['goal']})")


def run(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Return the document that --json prints."""
    out = args.out or scratch / "run"
    config = demo_config(out, args.minutes, steps=4 if args.quick else args.steps)
    config = replace(
        config,
        init=args.init,
        options=dict(pair.split("=", 1) for pair in args.set) or config.options,
        general=tuple(args.general),
        verify_bytes=20_000 if args.quick else 600_000,
    )
    progress = NO_PROGRESS if args.json else Bars()
    is_there = (out / "run.json").is_file()
    result = resume(out, progress=progress) if is_there else retrofit(config, progress=progress)
    source, destination = load_model("starter"), load_model(out / "model")
    texts = gather(config)
    before, after = result.source, result.destination
    goals = [
        goal(
            "bytes per token on held-out code, destination / source",
            ">= 1.25",
            after.bytes_per_token / before.bytes_per_token,
            "x",
            after.bytes_per_token >= 1.25 * before.bytes_per_token,
        ),
        goal(
            "bits per byte on held-out code, destination - source",
            "<= 0",
            after.bits_per_byte - before.bits_per_byte,
            "bits/byte",
            after.bits_per_byte <= before.bits_per_byte,
        ),
    ]
    english = [p.read_text(encoding="utf-8") for p in args.books] or texts.general
    if args.quick:
        english = [text[:20_000] for text in english]
    general = [bits_per_byte(lm, english).bits_per_byte for lm in (source, destination)]
    loss = general[1] / general[0] - 1
    goals.append(goal("loss on general English", "<= 3%", 100 * loss, "%", loss <= 0.03))

    lengths = (12,) if args.quick else (8, 16)
    speeds = speed_table(source, destination, texts, 1 if args.quick else 2, lengths)
    peer = speeds["source, generate of transformers"]
    best = max((n for n in speeds if n.startswith("destination")), key=speeds.__getitem__)
    ratio = speeds[best] / peer
    goals.append(goal(f"bytes per second, {best} / generate", ">= 2.5", ratio, "x", ratio >= 2.5))

    rows, starter = starter_rows(source, english, texts.held_out)
    goals += rows
    if not args.quick:
        cost = demo_cost(scratch)
        goals.append(goal("demo, run", "<= 180", cost["seconds"], "s", cost["seconds"] <= 180))
        peak = cost["peak_bytes"] / 1e9
        goals.append(goal("demo, peak memory", "< 3", peak, "GB", peak < 3))
    return {
        "schema_version": SCHEMA_VERSION,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "healing_minutes": None if args.quick else args.minutes,
        "healing_steps": result.healing_steps,
        "general_bits_per_byte": general,
        "starter": starter,
        "bytes_per_second": speeds,
        "goals": goals,
    }


if __name__ == "__main__":
    main()
