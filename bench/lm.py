"""Bench of the lm room: our plain greedy loop beside `generate` of transformers, and exactness.

python bench/lm.py [--json] [--quick]

Times are CPU seconds of one thread, both sides interleaved in one run on the same model.
"""

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import PreTrainedModel

from jeton.lm.cost import measure_cost
from jeton.lm.pack import packed
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree
from jeton.testing.models import CHAIN_ONLY_FAMILIES, FAMILIES, tiny_model

SCHEMA_VERSION = 1
PROMPT, NEW = 64, 128
LLAMA_7M = {  # the shape of the starter model's class: 8k tokens, 7 million parameters
    "vocab_size": 8192,
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 7,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}


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


def greedy_theirs(model: PreTrainedModel, prompt: list[int], num_new: int) -> list[int]:
    """`generate` with the same result in mind."""
    ids = torch.tensor([prompt])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=num_new,
        min_new_tokens=num_new,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return output[0, len(prompt) :].tolist()


def interleave(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each side, in turns, after one turn to warm up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, side in sides.items():
            start = time.thread_time()
            side()
            elapsed = time.thread_time() - start
            if turn:
                times[name].append(elapsed)
    return times


def tokens_per_second(times: list[float]) -> dict[str, float]:
    """Median, slowest and fastest."""
    rates = sorted(NEW / seconds for seconds in times)
    return {"median": statistics.median(rates), "min": rates[0], "max": rates[-1]}


def compare_greedy(model: PreTrainedModel, repeats: int, *, pack: bool) -> dict[str, Any]:
    """Tokens per second of both loops, the ratio of medians, and on how many prompts they agree."""
    rng = random.Random(0)
    prompts = [[rng.randrange(8192) for _ in range(PROMPT)] for _ in range(3)]
    equal = sum(greedy_ours(model, p, NEW) == greedy_theirs(model, p, NEW) for p in prompts)
    sides = {
        "generate": lambda: greedy_theirs(model, prompts[0], NEW),
        "jeton": lambda: greedy_ours(model, prompts[0], NEW),
    }
    if pack:

        def packed_loop() -> None:
            with packed(model):
                greedy_ours(model, prompts[0], NEW)

        sides["jeton, packed"] = packed_loop
    times = interleave(sides, repeats)
    rates = {name: tokens_per_second(values) for name, values in times.items()}
    # Each turn runs all sides one after the other: the ratio within a turn cancels its load.
    ratios = {
        name: statistics.median(a / b for a, b in zip(times["generate"], times[name], strict=True))
        for name in sides
    }
    return {"tokens_per_second": rates, "ratio": ratios, "equal": equal, "prompts": len(prompts)}


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


def run(quick: bool) -> dict[str, Any]:
    """Measure everything; `quick` takes fewer repeats."""
    torch.set_num_threads(1)
    repeats = 3 if quick else 15
    model = tiny_model("llama", **LLAMA_7M)
    num_parameters = sum(p.numel() for p in model.parameters())
    float32 = compare_greedy(model, repeats, pack=False)
    model.to(torch.bfloat16)
    bfloat16 = compare_greedy(model, repeats, pack=True)
    sizes, clock = (1, 2, 4, 8, 16, 32, 64), time.thread_time
    cost = measure_cost(model, sizes, context=200, repeats=repeats, clock=clock)
    with packed(model):
        cost_packed = measure_cost(model, sizes, context=200, repeats=repeats, clock=clock)
    errors = {family: tree_error(family) for family in FAMILIES + CHAIN_ONLY_FAMILIES}
    worst = max(errors[family] for family in FAMILIES)
    goals = [
        _goal("plain loop / generate, float32", 1.0, float32["ratio"]["jeton"], "x", at_least=True),
        _goal(
            "prompts with the tokens of generate, float32",
            float32["prompts"],
            float32["equal"],
            "prompts",
            at_least=True,
        ),
        _goal(
            "worst tree error of the ten families, float32", 1e-4, worst, "logit", at_least=False
        ),
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "room": "lm",
        "machine": f"{platform.machine()}, 1 thread, CPU time",
        "parameters": num_parameters,
        "float32": float32,
        "bfloat16": bfloat16,
        "forward_ms_bfloat16": _milliseconds(cost.sizes, cost.seconds),
        "forward_ms_bfloat16_packed": _milliseconds(cost_packed.sizes, cost_packed.seconds),
        "tree_error": errors,
        "goals": goals,
    }


def _goal(name: str, goal: float, measured: float, unit: str, *, at_least: bool) -> dict[str, Any]:
    holds = measured >= goal if at_least else measured <= goal
    return {"name": name, "goal": goal, "measured": measured, "unit": unit, "holds": holds}


def _milliseconds(sizes: list[int], seconds: list[float]) -> dict[str, float]:
    return {str(size): 1000 * value for size, value in zip(sizes, seconds, strict=True)}


def show(result: dict[str, Any]) -> None:
    """Print the result as tables."""
    print(f"{result['parameters']:,} parameters; {result['machine']}\n")
    for dtype in ("float32", "bfloat16"):
        part = result[dtype]
        print(f"{dtype}: same tokens on {part['equal']} of {part['prompts']} prompts")
        for name, rates in part["tokens_per_second"].items():
            print(
                f"  {name:14} {rates['median']:7.1f} tokens/s "
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
        mark = "holds" if goal["holds"] else "MISSED"
        print(
            f"  {mark:6} {goal['name']}: {goal['measured']:.3g} {goal['unit']} ({goal['goal']:g})"
        )


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
