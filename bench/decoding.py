"""Bench of the decoding room: every drafter beside `generate` of transformers, on recorded text.

python bench/decoding.py [--json] [--quick] [--model FOLDER]

The text is forced on both sides (`replay` here, a logits processor there), so that a model which
loops flatters nobody. Files of the held-out part of Python's standard library stand for code, a
prose sample for documents, a file with renamed words for editing. Times are CPU seconds of one
thread, all ways interleaved in one run on the same model; prefill is not counted here and is
subtracted there.
"""

import argparse
import contextlib
import json
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from jeton.decoding.create import create_drafter
from jeton.decoding.replay import replay
from jeton.errors import InputError
from jeton.lm.cost import CostTable, measure_cost
from jeton.lm.load import LanguageModel, load_model
from jeton.lm.pack import packed
from jeton.lm.runner import Runner
from jeton.starter import general_text_path, library_bucket, library_files

SCHEMA_VERSION = 1
NUM_PROMPT, NUM_DECODED = 384, 128
WAYS = (
    "prompt_lookup",
    "token_recycling",
    "aded",
    "lookahead",
    "prompt_lookup+token_recycling",
    "lookahead+aded",
)
clock = time.thread_time


@dataclass(frozen=True)
class Recording:
    """A text, cut into prompt and what is decoded."""

    task: str
    token_ids: list[int]
    num_prompt: int


def recordings(lm: LanguageModel, per_task: int) -> list[Recording]:
    """Return texts of three kinds that the starter model has not seen."""
    wanted = NUM_PROMPT + NUM_DECODED
    found: list[Recording] = []
    held_out = [p for name, p in library_files().items() if library_bucket(name) == 0]
    code = [path.read_text(encoding="utf-8") for path in held_out]
    code = [text for text in code if 6000 < len(text) < 40000]
    for text in code[:: max(1, len(code) // per_task)][:per_task]:
        ids = lm.vocabulary.encode(text[len(text) // 3 :][:6000])[:wanted]
        found.append(Recording("code", ids, NUM_PROMPT))
    prose = lm.vocabulary.encode(general_text_path().read_text(encoding="utf-8"))
    for index in range(per_task):
        start = index * max(1, (len(prose) - wanted) // per_task)
        found.append(Recording("prose", prose[start : start + wanted], NUM_PROMPT))
    for text in code[1 :: max(1, len(code) // per_task)][:per_task]:
        before = text[len(text) // 2 :][:700]
        words = sorted(set(re.findall(r"[a-z_]{4,}", before)))[::4]
        after = before
        for word in words:
            after = re.sub(rf"\b{word}\b", f"{word}_new", after)
        prompt = lm.vocabulary.encode(f"# before\n{before}\n# after\n")
        ids = prompt + lm.vocabulary.encode(after)[:NUM_DECODED]
        found.append(Recording("edit", ids, len(prompt)))
    return found


def hf_seconds(lm: LanguageModel, recording: Recording, **options: Any) -> float:
    """CPU seconds of `generate` on the forced text, those of its first token subtracted."""
    record = torch.tensor(recording.token_ids)

    def force(input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        wanted = record[min(input_ids.shape[1], len(record) - 1)]
        forced = torch.full_like(scores, float("-inf"))
        forced[:, wanted] = 0.0
        return forced

    ids = record[None, : recording.num_prompt]
    seconds = []
    for num_new in (1, len(record) - recording.num_prompt):
        start = clock()
        output = lm.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=num_new,
            min_new_tokens=num_new,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
            logits_processor=[force],
            **options,
        )
        seconds.append(clock() - start)
        assert output[0].tolist() == recording.token_ids[: recording.num_prompt + num_new]
    return seconds[1] - seconds[0]


def our_way(
    lm: LanguageModel,
    recording: Recording,
    name: str,
    runner: Runner,
    cost: CostTable | None,
    draft_model: LanguageModel | None,
) -> tuple[float, float]:
    """CPU seconds and tokens per step of one way on one text."""
    figures = replay(
        lm,
        recording.token_ids,
        num_prompt_tokens=recording.num_prompt,
        drafter=None if name == "none" else create_drafter(name),
        num_draft_tokens=8 if name.startswith("draft") else 16,
        runner=runner,
        draft_model=draft_model,
        cost=cost,
        clock=clock,
    )
    return figures.seconds, figures.tokens_per_step


def compare(
    lm: LanguageModel, draft_model: LanguageModel | None, per_task: int, rounds: int
) -> dict[str, Any]:
    """Return bytes per second, ratios to plain `generate` and tokens per step by task and way."""
    texts = recordings(lm, per_task)
    names = ["none", *WAYS, *(["draft_model", "dyspec"] if draft_model else [])]
    runner = Runner(lm.model)
    with fast(lm):
        cost = measure_cost(runner, (1, 2, 4, 8, 16, 24), context=NUM_PROMPT, clock=clock)
    tasks: dict[str, Any] = {}
    for task in ("code", "prose", "edit"):
        own = [text for text in texts if text.task == task]
        num_bytes = sum(len(lm.vocabulary.bytes_of(t.token_ids[t.num_prompt + 1 :])) for t in own)
        seconds: dict[str, list[float]] = {}
        steps: dict[str, float] = {}

        def note(name: str, measure: Callable[[], float], into: dict[str, list[float]]) -> None:
            into.setdefault(name, []).append(measure())

        for _ in range(rounds):
            note("generate", lambda own=own: sum(hf_seconds(lm, t) for t in own), seconds)
            note(
                "generate, prompt lookup",
                lambda own=own: sum(hf_seconds(lm, t, prompt_lookup_num_tokens=10) for t in own),
                seconds,
            )
            for name in names:
                with fast(lm):
                    cut = cost if name not in ("none", "draft_model", "dyspec") else None
                    found = [our_way(lm, t, name, runner, cut, draft_model) for t in own]
                note(name, lambda found=found: sum(s for s, _ in found), seconds)
                steps[name] = statistics.mean(s for _, s in found)
        tasks[task] = {
            name: {
                "bytes_per_second": num_bytes / statistics.median(values),
                "ratio": statistics.median(
                    a / b for a, b in zip(seconds["generate"], values, strict=True)
                ),
                "min": min(a / b for a, b in zip(seconds["generate"], values, strict=True)),
                "max": max(a / b for a, b in zip(seconds["generate"], values, strict=True)),
                "tokens_per_step": steps.get(name),
            }
            for name, values in seconds.items()
        }
    forwards = {str(n): 1000 * s for n, s in zip(cost.sizes, cost.seconds, strict=True)}
    return {"tasks": tasks, "forward_ms": forwards}


@contextlib.contextmanager
def fast(lm: LanguageModel) -> Iterator[None]:
    """Prepack bf16 weights while our ways run; packing itself is not timed."""
    is_bf16 = lm.model.dtype == torch.bfloat16
    with packed(lm.model) if is_bf16 else contextlib.nullcontext():
        yield


def goals_of(tasks: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the room's goals that this bench can decide."""
    best = {
        task: max(v["ratio"] for name, v in rows.items() if not name.startswith("generate"))
        for task, rows in tasks.items()
    }
    plain = min(rows["none"]["ratio"] for rows in tasks.values())
    lookup = {task: rows["generate, prompt lookup"]["ratio"] for task, rows in tasks.items()}
    return [
        _goal("plain loop over generate, bfloat16", 1.6, plain),
        _goal("best way over generate, code", 2.4, best["code"]),
        _goal("best way over generate, prose", 2.4, best["prose"]),
        _goal("best way over generate, edit", 6.0, best["edit"]),
        _goal("best way over prompt lookup of generate, code", 1.6, best["code"] / lookup["code"]),
        _goal("best way over prompt lookup of generate, edit", 1.6, best["edit"] / lookup["edit"]),
    ]


def _goal(name: str, goal: float, measured: float) -> dict[str, Any]:
    return {
        "name": name,
        "goal": goal,
        "measured": measured,
        "unit": "x",
        "holds": measured >= goal,
    }


def run(model: str, quick: bool) -> dict[str, Any]:
    """Measure everything; `quick` takes fewer texts and rounds."""
    torch.set_num_threads(1)
    lm = load_model(model, dtype="bfloat16")
    draft = None
    if model == "starter":
        with contextlib.suppress(InputError):  # a checkout without the draft's weights
            draft = load_model("starter-draft", dtype="bfloat16")
    found = compare(lm, draft, per_task=1 if quick else 4, rounds=1 if quick else 3)
    return {
        "schema_version": SCHEMA_VERSION,
        "room": "decoding",
        "machine": f"{platform.machine()}, 1 thread, CPU time",
        "model": lm.name,
        "dtype": "bfloat16",
        **found,
        "goals": goals_of(found["tasks"]),
    }


def show(result: dict[str, Any]) -> None:
    """Print the result as tables."""
    print(f"{result['model']}, {result['dtype']}; {result['machine']}")
    print("forward ms:", {n: round(ms, 2) for n, ms in result["forward_ms"].items()})
    for task, rows in result["tasks"].items():
        print(f"\n{task:32} bytes/s  x generate (min-max)  tokens/step")
        for name, row in rows.items():
            steps = "" if row["tokens_per_step"] is None else f"{row['tokens_per_step']:.2f}"
            print(
                f"  {name:30} {row['bytes_per_second']:7.0f}  {row['ratio']:5.2f} "
                f"({row['min']:.2f}-{row['max']:.2f})  {steps:>8}"
            )
    print("\ngoals:")
    for goal in result["goals"]:
        mark = "holds" if goal["holds"] else "MISSED"
        print(f"  {mark:6} {goal['name']}: {goal['measured']:.2f} x ({goal['goal']:g})")


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    parser.add_argument("--model", default="starter", help="folder or name of the target")
    arguments = parser.parse_args()
    result = run(arguments.model, arguments.quick)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
