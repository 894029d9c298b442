"""Bench of the lm room: the plain loop beside `generate` of transformers, batches, exactness.

python bench/lm.py [--json] [--quick]

Times are CPU seconds of one thread, both sides interleaved in one run on the same model: the
starter model, or a seeded one of its shape where a checkout has no weights. Copies of weights are
made before the clock starts, as they are once per process; `--quick` leaves out the 1,000 prompts.
"""

import argparse
import contextlib
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.decoding.batch import generate_batch
from jeton.decoding.contract import Sampling
from jeton.errors import InputError
from jeton.lm.bitwise import check_bitwise
from jeton.lm.cost import measure_cost
from jeton.lm.load import LanguageModel, load_model
from jeton.lm.pack import packed
from jeton.lm.packed_linear import has_bf16_instructions
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree
from jeton.starter import general_text_path
from jeton.testing.decoding import tiny_language_model
from jeton.testing.identity import Identity, check_identity
from jeton.testing.models import CHAIN_ONLY_FAMILIES, FAMILIES, tiny_model
from jeton.testing.models import tiny_language_model as seeded_model

SCHEMA_VERSION = 2
PROMPT, NEW = 64, 96
BATCH_LENGTHS = (16, 24, 32, 40, 48, 64, 80, 96)
STARTER_SHAPE = {
    "vocab_size": 8192,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
clock = time.thread_time


def target(name: str, dtype: torch.dtype) -> LanguageModel:
    """Return a model of the starter, or a seeded one of the same shape."""
    try:
        return load_model(name, dtype=str(dtype).removeprefix("torch."))
    except InputError:
        shape = dict(STARTER_SHAPE)
        if name == "starter-draft":
            shape |= {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3}
        lm = seeded_model("llama", **shape)
        lm.model.to(dtype)
        return lm


def greedy_ours(model: PreTrainedModel, prompt: list[int], num_new: int) -> list[int]:
    """The plain loop: prefill, then verify and commit one token at a time."""
    runner = Runner(model)
    token_id = int(runner.prefill(prompt).argmax())
    found = [token_id]
    while len(found) < num_new:
        logits = runner.verify(TokenTree([token_id], [-1])).logits
        runner.commit((0,))
        token_id = int(logits[0].argmax())
        found.append(token_id)
    return found


def greedy_theirs(
    model: PreTrainedModel, prompts: list[list[int]], num_new: int
) -> list[list[int]]:
    """`generate` with the same result in mind; several prompts are padded on the left."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    output = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=num_new,
        min_new_tokens=num_new,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return output[:, longest:].tolist()


def interleave(sides: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds that each side says it took, in turns, after one turn to warm up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, side in sides.items():
            elapsed = side()
            if turn:
                times[name].append(elapsed)
    return times


def timed(run: Callable[[], Any], model: PreTrainedModel, *, pack: bool = False) -> float:
    """CPU seconds of a call, with packed weights that were there before it."""
    with packed(model) if pack else contextlib.nullcontext():
        start = clock()
        run()
        return clock() - start


def rates_and_ratios(times: dict[str, list[float]], num_tokens: int) -> dict[str, Any]:
    """Tokens per second and, within each turn so that its load cancels, the ratio to generate."""
    rates, ratios = {}, {}
    for name, values in times.items():
        ordered = sorted(num_tokens / seconds for seconds in values)
        rates[name] = {
            "median": statistics.median(ordered),
            "min": ordered[0],
            "max": ordered[-1],
        }
        pairs = zip(times["generate"], values, strict=True)
        ratios[name] = statistics.median(theirs / ours for theirs, ours in pairs)
    return {"tokens_per_second": rates, "ratio": ratios}


def prose(lm: LanguageModel, lengths: tuple[int, ...]) -> list[list[int]]:
    """Prompts of held-out prose, or of random ids for a model without a text."""
    if lm.tokenizer is None:
        rng = random.Random(0)
        return [[rng.randrange(1, 8000) for _ in range(length)] for length in lengths]
    ids = lm.vocabulary.encode(general_text_path().read_text(encoding="utf-8"))
    return [ids[150 * i : 150 * i + length] for i, length in enumerate(lengths)]


def compare_greedy(lm: LanguageModel, repeats: int) -> dict[str, Any]:
    """Both loops on one prompt, and on how many prompts they agree."""
    model, prompts = lm.model, prose(lm, (PROMPT,) * 3)
    equal = sum(greedy_ours(model, p, 48) == greedy_theirs(model, [p], 48)[0] for p in prompts)
    first = prompts[0]
    times = interleave(
        {
            "generate": lambda: timed(lambda: greedy_theirs(model, [first], NEW), model),
            "jeton": lambda: timed(lambda: greedy_ours(model, first, NEW), model),
            "jeton, packed": lambda: timed(
                lambda: greedy_ours(model, first, NEW), model, pack=True
            ),
        },
        repeats,
    )
    return {**rates_and_ratios(times, NEW), "equal": equal, "prompts": len(prompts)}


def compare_batch(lm: LanguageModel, repeats: int, num_new: int = 48) -> dict[str, Any]:
    """Eight prompts of different lengths at once, packed, with and without drafts."""
    model, prompts = lm.model, prose(lm, BATCH_LENGTHS)

    def ours(drafter: str | None) -> float:
        def run() -> None:
            generate_batch(lm, prompts, max_new_tokens=num_new, drafter=drafter, stop_ids=[])

        return timed(run, model, pack=True)

    times = interleave(
        {
            "generate": lambda: timed(lambda: greedy_theirs(model, prompts, num_new), model),
            "jeton, packed": lambda: ours(None),
            "jeton, packed, lookahead (free text loops)": lambda: ours("lookahead"),
        },
        repeats,
    )
    return rates_and_ratios(times, num_new * len(prompts))


def compare_hybrids() -> dict[str, dict[str, bool]]:
    """Chain speculation on recurrent and hybrid models, and what generate says to it."""
    found = {}
    for family in CHAIN_ONLY_FAMILIES:
        lm = tiny_language_model(family)
        identity = check_identity(lm, 4)
        ids = torch.tensor([[1, 2, 3, 1, 2, 3]])
        try:
            lm.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=8,
                do_sample=False,
                prompt_lookup_num_tokens=3,
                pad_token_id=0,
            )
            refused = False
        except (ValueError, RuntimeError, TypeError, AttributeError):
            refused = True
        works = identity.same_with_chains == 4 and identity.num_accepted > 0
        found[family] = {"works": works, "generate_refuses": refused}
    return found


def tree_error(family: str, rounds: int = 4) -> float:
    """The worst difference, over random trees, from the plain forward of each node's path."""
    model, rng, worst = tiny_model(family), random.Random(0), 0.0
    runner = Runner(model)
    runner.prefill([rng.randrange(64) for _ in range(17)], chunk=5)
    for _ in range(rounds):
        parents = [-1, 0, 1, 2, 3] + [rng.randrange(-1, node) for node in range(5, 12)]
        if not runner.supports_trees:
            parents = list(range(-1, 11))
        tree = TokenTree([rng.randrange(64) for _ in parents], parents)
        logits = runner.verify(tree).logits
        for node in range(len(tree)):
            path = runner.token_ids + [tree.token_ids[i] for i in tree.path_to(node)]
            with torch.no_grad():
                plain = model(input_ids=torch.tensor([path]), use_cache=False).logits[0, -1]
            worst = max(worst, float((logits[node] - plain).abs().max()))
        runner.commit(tree.path_to(rng.randrange(len(tree))))
    return worst


def run(quick: bool, progress: Progress = NO_PROGRESS) -> dict[str, Any]:
    """Measure everything; `quick` takes fewer repeats and no 1,000 prompts."""
    torch.set_num_threads(1)
    repeats = 3 if quick else 9
    lm32, lm16 = target("starter", torch.float32), target("starter", torch.bfloat16)
    draft = target("starter-draft", torch.bfloat16)
    float32, bfloat16 = compare_greedy(lm32, repeats), compare_greedy(lm16, repeats)
    batch = compare_batch(lm16, 2 if quick else 5)
    sizes = (1, 8, 16) if quick else (1, 2, 4, 8, 16, 32)
    options: dict[str, Any] = {"context": 200, "repeats": 4 * repeats, "clock": clock}
    cost = measure_cost(lm16.model, sizes, **options)
    with packed(lm16.model), packed(draft.model):
        cost_packed = measure_cost(lm16.model, sizes, **options)
        cost_draft = measure_cost(draft.model, (1,), **options)
        bitwise = check_bitwise(Runner(lm16.model))
        greedy = sampled = None
        if not quick:
            greedy = check_identity(lm16, 1000, progress=progress)
            sampling = Sampling(temperature=0.8, top_p=0.95)
            sampled = check_identity(lm16, 1000, sampling=sampling, seed=1, progress=progress)
    errors = {family: tree_error(family) for family in FAMILIES + CHAIN_ONLY_FAMILIES}
    worst = max(errors[family] for family in FAMILIES)
    hybrids = compare_hybrids()
    works = sum(row["works"] and row["generate_refuses"] for row in hybrids.values())
    goals = [
        _goal("plain loop / generate, bfloat16", 1.6, bfloat16["ratio"]["jeton, packed"]),
        _goal("plain loop / generate, float32", 1.6, float32["ratio"]["jeton, packed"]),
        _goal("plain loop without packed weights / generate", 1.0, float32["ratio"]["jeton"]),
        _goal("prompts with the tokens of generate, float32", 3, float32["equal"], "prompts"),
        _goal("batch of 8, ragged / batched generate", 1.5, batch["ratio"]["jeton, packed"]),
        _goal("chains and trees of 32 nodes have the bits of single steps", 1, bitwise.holds, ""),
        _goal("bitwise identity on 1,000 prompts", 1000, _same(greedy), "prompts"),
        _goal("seed-exact on 1,000 prompts", 1000, _same(sampled), "prompts"),
        _goal("chain speculation on models that generate refuses", 2, works, "families"),
        _goal("worst tree error, float32", 1e-4, worst, "logit", at_least=False),
        _goal(
            "a step of the draft model / of its target",
            0.38,
            cost_draft.seconds[0] / cost_packed.seconds[0],
            at_least=False,
        ),
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "room": "lm",
        "machine": f"{platform.machine()}, 1 thread, CPU time",
        "has_bf16_instructions": has_bf16_instructions(),
        "model": lm32.name,
        "parameters": lm32.num_parameters,
        "float32": float32,
        "bfloat16": bfloat16,
        "batch_of_8_bfloat16": batch,
        "forward_ms_bfloat16": _milliseconds(cost.sizes, cost.seconds),
        "forward_ms_bfloat16_packed": _milliseconds(cost_packed.sizes, cost_packed.seconds),
        "draft_step_ms_bfloat16_packed": 1000 * cost_draft.seconds[0],
        "identity": None if greedy is None else vars(greedy),
        "identity_sampled": None if sampled is None else vars(sampled),
        "hybrids": hybrids,
        "tree_error": errors,
        "goals": goals,
    }


def _same(identity: Identity | None) -> int | None:
    """Prompts whose text neither chains nor trees changed; None where nothing was measured."""
    if identity is None:
        return None
    return min(identity.same_with_chains, identity.same_with_trees)


def _goal(
    name: str, goal: float, measured: float | None, unit: str = "x", *, at_least: bool = True
) -> dict[str, Any]:
    holds = None
    if measured is not None:
        measured = float(measured)
        holds = measured >= goal if at_least else measured <= goal
    return {"name": name, "goal": goal, "measured": measured, "unit": unit, "holds": holds}


def _milliseconds(sizes: list[int], seconds: list[float]) -> dict[str, float]:
    return {str(size): 1000 * value for size, value in zip(sizes, seconds, strict=True)}


def show(result: dict[str, Any]) -> None:
    """Print the result as tables."""
    print(f"{result['model']}, {result['parameters']:,} parameters; {result['machine']}\n")
    for key in ("float32", "bfloat16", "batch_of_8_bfloat16"):
        part = result[key]
        print(key)
        for name, rates in part["tokens_per_second"].items():
            print(
                f"  {name:44} {rates['median']:7.1f} tokens/s "
                f"({rates['min']:.1f} to {rates['max']:.1f})  {part['ratio'][name]:.2f}x"
            )
    for key in ("forward_ms_bfloat16", "forward_ms_bfloat16_packed"):
        row = "  ".join(f"{size}: {value:.2f}" for size, value in result[key].items())
        print(f"{key}: {row}")
    print("\nworst difference of a tree node's logits from the plain forward of its path:")
    for family, error in result["tree_error"].items():
        print(f"  {family:12} {error:.1e}")
    print("\ngoals:")
    for goal in result["goals"]:
        mark = {True: "holds", False: "MISSED", None: "-"}[goal["holds"]]
        measured = "not measured" if goal["measured"] is None else f"{goal['measured']:.3g}"
        print(f"  {mark:6} {goal['name']}: {measured} {goal['unit']} ({goal['goal']:g})")


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    arguments = parser.parse_args()
    result = run(arguments.quick)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
