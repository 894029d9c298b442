"""Bench of the decoding room: every way of decoding beside `generate` of transformers.

python bench/decoding.py [--json] [--quick]

Text is forced on both sides (`replay` here, a logits processor there), so that a model which loops
flatters nobody; figures of free running stand beside it, and say when the text loops. Texts are
held-out files, docstrings and edits of Python's standard library, the project's prose sample and,
where ../shared/data is, worked answers as chat. Times are CPU seconds of one thread, interleaved
in one run on the same model; reading the prompt is not counted. The 100M-class model has random
weights: it shows costs, and drafters that look at its logits have nothing to find.
"""

import argparse
import contextlib
import json
import platform
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import decoding_laws as laws
from decoding_goals import (
    GREEDY,
    LOOKING_BACK,
    LOOKUP,
    SINGLE,
    WITH_LOGITS,
    WITH_MODEL,
    goals_of,
    show,
)
from decoding_texts import (
    NUM_PROMPT,
    SHARED,
    TASKS,
    Recording,
    clock,
    hf_batch_seconds,
    hf_run,
    hf_seconds,
    recordings,
    stores,
)
from jeton.decoding.batch import BatchLoop
from jeton.decoding.contract import Sampling
from jeton.decoding.create import create_drafter
from jeton.decoding.engine import DecodingLoop
from jeton.decoding.generation import generate
from jeton.decoding.loops import IS_LOOPING, loop_share
from jeton.decoding.replay import Recorded, replay
from jeton.decoding.tune import tune
from jeton.decoding.workload import Recording as Work
from jeton.errors import InputError
from jeton.lm.cost import CostTable, measure_cost
from jeton.lm.load import LanguageModel, load_model
from jeton.lm.pack import packed
from jeton.lm.runner import Runner
from jeton.testing.decoding import Adversary, check_equals_plain, tiny_language_model

SCHEMA_VERSION = 2
CONFIG_100M = {
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 15,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
    "rms_norm_eps": 1e-5,
}


@dataclass
class Field:
    """A model with everything that its ways of decoding need."""

    lm: LanguageModel
    texts: list[Recording]
    names: list[str]
    draft_model: LanguageModel | None = None
    stores: dict[str, Path] = field(default_factory=dict)
    lean: bool = True
    lookup_too: bool = True


@contextlib.contextmanager
def fast(lm: LanguageModel) -> Iterator[None]:
    """Prepack bf16 weights while our ways run; packing itself is not timed."""
    is_bf16 = lm.model.dtype == torch.bfloat16
    with packed(lm.model) if is_bf16 else contextlib.nullcontext():
        yield


def our_seconds(
    given: Field, name: str, text: Recording, runner: Runner, cost: CostTable
) -> tuple[float, float]:
    """CPU seconds and tokens per step of one way on one text."""
    options = {}
    if "rest" in name:
        options = {"store": str(given.stores[text.task])}
    drafter = None if name == "none" else create_drafter(name, options, cost=cost)
    is_model = name in WITH_MODEL
    figures = replay(
        given.lm,
        text.token_ids,
        num_prompt_tokens=text.num_prompt,
        drafter=drafter,
        num_draft_tokens=6 if is_model else 16,
        runner=runner,
        draft_model=given.draft_model,
        cost=None if name == "none" or is_model else cost,
        clock=clock,
    )
    return figures.seconds, figures.tokens_per_step


def compare(given: Field, rounds: int) -> dict[str, Any]:
    """Return speed, ratio to `generate` and tokens per step by task and way."""
    lm = given.lm
    with fast(lm):
        runner = Runner(lm.model, lean=given.lean)
        cost = measure_cost(runner, (1, 2, 4, 8, 16, 24), context=NUM_PROMPT, clock=clock)
    tasks: dict[str, Any] = {}
    for task in (t for t in TASKS if any(text.task == t for text in given.texts)):
        own = [text for text in given.texts if text.task == task]
        names = [n for n in given.names if "rest" not in n or task in given.stores]
        seconds: dict[str, list[float]] = {}
        steps: dict[str, float] = {}
        for _ in range(rounds):
            seconds.setdefault(GREEDY, []).append(sum(hf_seconds(lm, t) for t in own))
            if given.lookup_too:
                spent = sum(hf_seconds(lm, t, prompt_lookup_num_tokens=10) for t in own)
                seconds.setdefault(LOOKUP, []).append(spent)
            with fast(lm):
                runner = Runner(lm.model, lean=given.lean)
                for name in names:
                    found = [our_seconds(given, name, t, runner, cost) for t in own]
                    seconds.setdefault(name, []).append(sum(s for s, _ in found))
                    steps[name] = statistics.mean(s for _, s in found)
        num_bytes = sum(len(lm.vocabulary.bytes_of(t.token_ids[t.num_prompt + 1 :])) for t in own)
        tasks[task] = _rows(seconds, steps, num_bytes)
    forwards = {str(n): 1000 * s for n, s in zip(cost.sizes, cost.seconds, strict=True)}
    return {"tasks": tasks, "forward_ms": forwards, "forward_by": runner.forward_kind}


def _rows(
    seconds: dict[str, list[float]], steps: dict[str, float], num_bytes: int
) -> dict[str, Any]:
    base = seconds[GREEDY]
    rows = {}
    for name, values in seconds.items():
        ratios = [a / b for a, b in zip(base, values, strict=True)]
        rows[name] = {
            "bytes_per_second": num_bytes / statistics.median(values),
            "ratio": statistics.median(ratios),
            "min": min(ratios),
            "max": max(ratios),
            "tokens_per_step": steps.get(name),
        }
    return rows


def free_running(
    lm: LanguageModel, draft: LanguageModel | None, texts: list[Recording]
) -> dict[str, Any]:
    """Return the same without force, on code and prose: greedy text of the model itself."""
    ways: dict[str, list[float]] = {}
    num_looping, num_texts, num_new = 0, 0, 96
    for text in texts:
        prompt = text.token_ids[: text.num_prompt]
        ids = torch.tensor([prompt])
        first = hf_run(lm, ids, 1)[1]
        written, spent = hf_run(lm, ids, num_new)
        ways.setdefault(GREEDY, []).append(spent - first)
        options: list[tuple[str, dict[str, Any]]] = [(LOOKUP, {"prompt_lookup_num_tokens": 10})]
        if draft is not None:
            options.append(("generate, assisted", {"assistant_model": draft.model}))
        for name, option in options:
            ways.setdefault(name, []).append(hf_run(lm, ids, num_new, **option)[1] - first)
        num_texts += 1
        num_looping += loop_share(written) > IS_LOOPING
        with fast(lm):
            for name in ("none", "lookahead", *(("draft_model",) if draft else ())):
                found = generate(
                    lm,
                    prompt,
                    max_new_tokens=num_new,
                    drafter=None if name == "none" else name,
                    draft_model=draft,
                    stop_ids=[],
                    num_draft_tokens=6,
                    watch=(watch := Stopwatch()),
                )
                assert len(found.token_ids) == num_new
                ways.setdefault(name, []).append(watch.seconds)
    base = sum(ways[GREEDY])
    ratios = {name: base / sum(values) for name, values in ways.items()}
    return {"ratio": ratios, "num_texts": num_texts, "num_looping": num_looping}


class Stopwatch:
    """CPU seconds since the first step of a generation."""

    def __init__(self) -> None:
        self.start: float | None = None
        self.seconds = 0.0

    def __call__(self, *_: Any) -> None:
        """Note a step."""
        self.start = clock() if self.start is None else self.start
        self.seconds = clock() - self.start


def seeded_100m(like: LanguageModel) -> LanguageModel:
    """Return a model of 100 million random weights with the vocabulary of another one."""
    torch.manual_seed(0)  # a script of its own: nobody else's generator
    config = LlamaConfig(vocab_size=like.num_embeddings, **CONFIG_100M)
    model = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    return LanguageModel(model, None, like.vocabulary, "100M, random weights")


def chosen_by_tune(lm: LanguageModel, texts: list[Recording], tasks: dict[str, Any]) -> float:
    """Return the worst share, over three workloads, of the best way's speed that tune's has."""
    shares = []
    for task in (task for task in ("code", "chat", "prose") if task in tasks):
        work = [Work(tuple(t.token_ids), t.num_prompt) for t in texts if t.task == task]
        with fast(lm):
            found = tune(lm, work, drafters=SINGLE[1:4], lengths=[16], rounds=2, clock=clock)
        rows = {name: tasks[task][name]["ratio"] for name in SINGLE[:4]}
        shares.append(rows[found.best.drafter] / max(rows.values()))
    return min(shares)


def hybrids_work() -> float:
    """Return the share of recurrent and hybrid families whose text chains leave as it is."""
    equal = 0
    families = ("mamba", "qwen3_next")
    for family in families:
        lm, prompt = tiny_language_model(family), [5, 6, 7, 5, 6, 7]
        right = [int(i) for i in generate(lm, prompt, max_new_tokens=16, stop_ids=[]).token_ids]
        adversary = Adversary([*prompt, *right], makes_trees=False)
        loop = check_equals_plain(lm, prompt, adversary, max_new_tokens=16)
        equal += loop.stats.num_accepted > 0
    return equal / len(families)


def batch_of_8(lm: LanguageModel, texts: list[Recording]) -> float:
    """Return the speed of a ragged batch with drafts over that of batched `generate`."""
    with fast(lm):
        runner = Runner(lm.model)
        cost = measure_cost(runner, (8, 16, 32, 64), context=NUM_PROMPT, repeats=3, clock=clock)
        share = CostTable([1, 2, 4, 8], cost.seconds, cost.context, cost.machine, cost.dtype)
        loops = [
            DecodingLoop(
                lm,
                drafter=create_drafter("lookahead"),
                verifier=Recorded(text.token_ids),
                sampling=Sampling(),
                num_draft_tokens=8,
                runner=runner,
                cost=share,
            )
            for text in texts
        ]
        num_new = min(len(t.token_ids) - t.num_prompt for t in texts)
        begun, start = set(), 0.0
        prompts = [text.token_ids[: text.num_prompt] for text in texts]
        for index, _ in BatchLoop(loops).run(prompts, num_new):
            if len(begun) < len(texts):  # the first token of each comes from its prompt
                begun.add(index)
                start = clock()
        ours = clock() - start
    return hf_batch_seconds(lm, texts, num_new) / ours


def run(quick: bool) -> dict[str, Any]:
    """Measure everything; `quick` takes one text per task, one round and no large model."""
    torch.set_num_threads(1)
    lm = load_model("starter", dtype="bfloat16")
    draft = None
    with contextlib.suppress(InputError):  # a checkout without the draft's weights
        draft = load_model("starter-draft", dtype="bfloat16")
    texts = recordings(lm, 1 if quick else 2)
    names = ["none", *LOOKING_BACK]
    if not quick:
        names += [*WITH_LOGITS, *(WITH_MODEL if draft else ())]
    shown = [t for t in texts if t.task in ("code", "edit")] if quick else texts
    found: dict[str, Any] = {
        "enumerated": laws.enumerated(),
        "hybrids": hybrids_work(),
        "starter bfloat16": compare(Field(lm, shown, names, draft), 1 if quick else 2),
    }
    if quick:
        return _document(found, quick)
    found |= _slow(lm, draft, texts)
    return _document(found, quick)


def _slow(lm: LanguageModel, draft: LanguageModel | None, texts: list[Recording]) -> dict[str, Any]:
    """Return what takes minutes."""
    found: dict[str, Any] = {}
    full = load_model("starter", dtype="float32")
    short = [text for text in texts if text.task in ("code", "prose", "edit")][::2]
    found["starter float32"] = compare(Field(full, short, ["none", "lookahead", "auto"]), 1)
    found |= _stories()
    found["free running"] = {
        task: free_running(lm, draft, [t for t in texts if t.task == task])
        for task in ("code", "prose")
    }
    found["tune"] = chosen_by_tune(
        lm, texts, compare(Field(lm, texts, [*SINGLE[:4]], lookup_too=False), 1)["tasks"]
    )
    found["batch"] = batch_of_8(lm, [t for t in recordings(lm, 8) if t.task == "code"][:8])
    with fast(lm):
        for kind, sampling in (
            ("greedy bf16", Sampling()),
            ("seed-exact bf16", Sampling(temperature=1.0)),
        ):
            found[f"identical, {kind}"] = laws.identical(lm, 1000, sampling)
    if draft is not None:
        small = load_model("starter-draft", dtype="float32")
        pairs = [
            pair
            for text in [t for t in texts if t.task == "code"][:1]
            for pair in laws.one_step_pairs(full, small, text.token_ids)
        ]
        found["acceptance"] = laws.acceptance_table(pairs, 60)
        found["chi-square by verifier"] = laws.chi_square(pairs[5], 20_000)
        found["chi-square"] = min(found["chi-square by verifier"].values())
    return found | _large(lm)


def _stories() -> dict[str, Any]:
    """Return the loop on stories260k in both dtypes, where the shared data is."""
    folder = SHARED / "models" / "stories260k"
    found = {}
    for dtype in ("float32", "bfloat16") if folder.is_dir() else ():
        lm = load_model(str(folder), dtype=dtype)
        prompt = lm.vocabulary.encode("Once upon a time there was a little girl")
        ids = generate(lm, prompt, max_new_tokens=160, stop_ids=[]).token_ids
        text = Recording("prose", [*prompt, *ids], len(prompt))
        given = Field(lm, [text], ["none", "lookahead", "auto"])
        found[f"stories260k {dtype}, its own text"] = compare(given, 3)
    return found


def _large(like: LanguageModel) -> dict[str, Any]:
    """Return the figures of the 100M-class model, with stores and on unmodified modules."""
    lm = seeded_100m(like)
    texts = recordings(lm, 1)
    kept = stores(lm, 3_000_000, texts)
    with tempfile.TemporaryDirectory() as folder:
        paths = {task: Path(folder) / f"{task}.npz" for task in kept}
        for task, store in kept.items():
            store.save(paths[task])
        names = ["none", *LOOKING_BACK, "rest", "lookahead+rest"]
        large = compare(Field(lm, texts, names, stores=paths), 1)
    stock = [text for text in texts if text.task in ("code", "edit")]
    given = Field(lm, stock, ["none", "lookahead", "prompt_lookup"], lean=False)
    return {
        "100M bfloat16": large,
        "100M bfloat16, unmodified modules": compare(given, 1),
    }


def _document(found: dict[str, Any], quick: bool) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "room": "decoding",
        "machine": f"{platform.machine()}, 1 thread, CPU time",
        "quick": quick,
        "results": found,
        "goals": goals_of(found),
    }


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    arguments = parser.parse_args()
    document = run(arguments.quick)
    if arguments.json:
        print(json.dumps(document, indent=2))
    else:
        show(document)


if __name__ == "__main__":
    main()
