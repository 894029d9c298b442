"""Measure the goals of the kv room: dense cache, policies, mass, padding, speculation, reach.

    python bench/kv.py [--json] [--quick] [--only PART ...] [--peer .venv-kvpress/bin/python]

Speed is the CPU time of one thread on a seeded 123M Llama (9 layers, 16/8 heads), interleaved; the
cache is filled with random rows instead of being read from a prompt. `make bench-kv` builds the
peer's environment: kvpress 0.5.5 needs transformers below 5.3.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig

from jeton.kv import Cache, attach, create_policy
from jeton.kv.contract import Choice
from jeton.kv.harness import ask, chain_model, draw_contexts, physical_limit
from jeton.kv.select import SelectPolicy

LAYERS, HEADS, KV_HEADS, HEAD_DIM = 9, 16, 8, 64
PEER = Path(__file__).resolve().parent.parent / ".venv-kvpress" / "bin" / "python"


class Everything(SelectPolicy):
    """Attends to everything, with the heads of a group in one call: the dense floor of policies."""

    def choose(self, state, query, rows):
        """Choose nothing."""
        return Choice(None, None, True)


def build(dtype, length, layers=LAYERS):
    """Return the seeded 123M Llama."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16384,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        max_position_embeddings=length + 4096,
        tie_word_embeddings=True,
    )
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def fill(cache, length, dtype):
    """Put random rows into every layer, the same for every cache."""
    generator = torch.Generator().manual_seed(0)
    for layer in cache.layers:
        shape = (1, KV_HEADS, length, HEAD_DIM)
        keys, values = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
        layer.update(keys, values)
        if hasattr(layer, "_place"):
            layer._place()
            layer.window.add(torch.randn(1, HEADS, 64, HEAD_DIM, generator=generator).to(dtype))
            layer._scaling, layer._group = HEAD_DIM**-0.5, HEADS // KV_HEADS
    return cache


def decode_times(model, policies, length, rounds, steps):
    """Return the median ms of a step of every cache, one round after the other, and bytes held."""
    dtype = model.dtype
    caches = {
        "hf": (None, fill(DynamicCache(config=model.config), length, dtype)),
        "dense": (None, fill(Cache(model.config), length, dtype)),
    }
    held = {}
    for name, policy in policies.items():
        with attach(model, policy) as attached:
            cache = fill(attached.fill(DynamicCache(config=model.config)), length, dtype)
        caches[name] = (policy, cache)
    times = {name: [] for name in caches}
    token = torch.tensor([[5]])
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name, (policy, cache) in caches.items():
                if policy is None:
                    found = timed(model, token, cache, 2)
                else:
                    found = under(model, policy, cache, token, steps)
                    held[name] = sum(layer.num_bytes for layer in cache.layers)
                if number:
                    times[name].append(statistics.mean(found))
    return {name: statistics.median(found) for name, found in times.items()}, held


def under(model, policy, cache, token, steps):
    """Return the ms of steps on the cache of a policy."""
    with attach(model, policy):
        for layer in cache.layers:
            layer.is_active = True
        return timed(model, token, cache, steps)


def timed(model, token, cache, steps):
    """Return the ms of steps on one cache."""
    found = []
    for _ in range(steps):
        started = time.thread_time()
        model(input_ids=token, past_key_values=cache)
        found.append(1e3 * (time.thread_time() - started))
    return found


def same_bits(dtype):
    """Whether generate gives the same logits with our dense cache as with the stock one."""
    model = build(dtype, 256, layers=2)
    ids = torch.arange(64)[None]
    results = []
    for cache in (None, Cache(model.config)):
        found = model.generate(
            ids,
            max_new_tokens=16,
            do_sample=False,
            past_key_values=cache,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=0,
            attention_mask=torch.ones_like(ids),
        )
        results.append(torch.stack(found.logits))
    return torch.equal(*results)


def row(name, goal, measured, unit, holds):
    """Return one goal's row."""
    shown = round(measured, 3) if isinstance(measured, float) else measured
    return {"name": name, "goal": goal, "measured": shown, "unit": unit, "holds": holds}


def speed_goals(length, rounds):
    """Return the goals of decoding at 16k, and the times behind them."""
    goals, tables = [], {}
    kept = 1024
    for dtype, name, least in ((torch.float32, "fp32", 2.5), (torch.bfloat16, "bf16", 1.5)):
        model = build(dtype, length)
        policies = {
            "dense, heads grouped": Everything(budget=kept),
            "page_bounds": create_policy("page_bounds", budget=kept),
            "recycled_attention": create_policy("recycled_attention", budget=kept),
            "tokenselect": create_policy("tokenselect", budget=kept),
            "evicted (streaming)": create_policy("streaming", budget=kept),
        }
        times, _ = decode_times(model, policies, length, rounds, 16)
        tables[f"decode ms, {name}, {length} tokens"] = times
        ratio = times["hf"] / times["dense"]
        exact = same_bits(dtype)
        title = f"dense decode at {length}, {name}, bit-exact {exact}, against DynamicCache"
        goals.append(row(title, least, ratio, "x", exact and ratio >= least))
        if dtype == torch.bfloat16:
            best = min(("page_bounds", "recycled_attention"), key=times.get)
            ratio = times["dense"] / times[best]
            title = f"bf16 at {length}, {kept} kept ({best}), against our dense cache"
            goals.append(row(title, 1.9, ratio, "x", ratio >= 1.9))
            grouped = times["dense, heads grouped"] / times[best]
            period = getattr(policies[best], "period", None)
            limit = physical_limit(model, length, policies[best], 1 / period if period else 0.0)
            title = f"stretch: part of the physical limit {limit:.2f}x, against grouped heads"
            goals.append(row(title, 0.8, grouped / limit, "", grouped / limit >= 0.8))
    return goals, tables


def head_goals(rounds):
    """Return the goals of per-head budgets at 4k."""
    model = build(torch.float32, 4096)
    policy = create_policy("adakv", budget=1600)
    times, held = decode_times(model, {"adakv": policy}, 4096, rounds, 8)
    dense = 2 * LAYERS * KV_HEADS * HEAD_DIM * 4 * 4096
    part, ratio = held["adakv"] / dense, times["dense"] / times["adakv"]
    return [
        row("per-head budgets at 4k: keys and values, of dense", 0.45, part, "", part <= 0.45),
        row("per-head budgets at 4k: decode against dense", 1.0, ratio, "x", ratio > 1.0),
    ], {"decode ms, fp32, 4096 tokens": times}


def padding_goal(contexts):
    """Return the goal of left padding: accuracy within .01 for pads of 0 to 128."""
    model, worst = chain_model(), 0.0
    drawn = draw_contexts(contexts, 256)
    for name in ("snapkv", "h2o", "keydiff", "page_bounds"):
        with attach(model, create_policy(name, budget=128)):
            alone = ask(model, drawn, "multi")
            for pad in (16, 64, 128):
                pads = [pad * (number % 2) for number in range(contexts)]
                worst = max(worst, abs(ask(model, drawn, "multi", pads=pads) - alone))
    return row("padding 0 to 128: largest change of accuracy", 0.01, worst, "", worst <= 0.01)


def speculation_goal(prompts):
    """Return the goal of token-equal speculation with eviction."""
    from jeton import Runner, generate
    from jeton.testing.models import tiny_language_model

    lm = tiny_language_model("llama")
    equal = 0
    for seed in range(prompts):
        generator = torch.Generator().manual_seed(seed)
        prompt = (torch.randint(1, 12, (48,), generator=generator)).tolist()
        name = ("h2o", "snapkv", "streaming", "tova")[seed % 4]
        found = []
        with attach(lm.model, create_policy(name, budget=32, options={"recent": 8})) as attached:
            for drafter in (None, ("prompt_lookup", "token_recycling")[seed // 4 % 2]):
                runner = Runner(lm.model, cache=attached.cache())
                made = generate(
                    lm, prompt, max_new_tokens=40, stop_ids=[], drafter=drafter, runner=runner
                )
                found.append(made.token_ids)
        equal += found[0] == found[1]
    title = f"speculation with eviction: token-equal of {prompts} prompts"
    return row(title, prompts, equal, "prompts", equal == prompts)


class Peer:
    """kvpress in its own environment, asked between our own measurements."""

    def __init__(self, python, dtype, length):
        """Start it; `ask` returns None where the environment is not built."""
        script = Path(__file__).resolve().parent / "kvpress_peer.py"
        command = [python, script, dtype, str(length)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes) if python.is_file() else None

    def ask(self, command):
        """Return the answer to one command, or None where it has ended."""
        if self.process is None or self.process.poll() is not None:
            return None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        while line := self.process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        sys.stderr.write(f"kvpress ended with {self.process.wait()} at {command}\n")
        return None

    def end(self):
        """Let it go."""
        if self.process is not None and self.process.poll() is None:
            self.process.communicate()


def alone(dtype, length, name):
    """Return what kv_prefill.py finds in a process of its own, whose peak is its alone."""
    script = Path(__file__).resolve().parent / "kv_prefill.py"
    command = [sys.executable, script, dtype, str(length), name]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout)


def judged(name, goal, measured, unit, is_upper=False):
    """Return a row that holds from the goal on, or up to it; None was not measured."""
    holds = None if measured is None else measured <= goal if is_upper else measured >= goal
    return row(name, goal, measured, unit, holds)


def mass_goals(python, length, far):
    """Return the goals of prefill with mass, against kvpress and at a length it cannot read."""
    goals, tables, least = [], {}, {"fp32": 2.8, "bf16": 4.0}
    for short, dtype in (("fp32", "float32"), ("bf16", "bfloat16")):
        peer = Peer(python, short, length)
        theirs, ours = peer.ask("observed"), alone(dtype, length, "h2o")
        peer.end()
        dense = alone(dtype, length, "dense")
        found = {"dense": dense, "h2o": ours, "kvpress observed": theirs or {}}
        for unit, field, factor in (("CPU s", "seconds", 1), ("MB beyond", "extra_bytes", 1e-6)):
            title = f"prefill {unit}, {short}, {length} tokens"
            tables[title] = {k: factor * v[field] for k, v in found.items() if v}
        ratio = theirs["seconds"] / ours["seconds"] if theirs else None
        packing = ", weights packed" if short == "bf16" else ""
        title = f"mass prefill at {length}, {short}{packing}, against kvpress Observed"
        goals.append(judged(title, least[short], ratio, "x"))
        if short == "fp32":
            part = ours["extra_bytes"] / theirs["extra_bytes"] if theirs else None
            title = f"mass prefill at {length}: memory beyond the model, of kvpress Observed's"
            goals.append(judged(title, 0.25, part, "", is_upper=True))
    ours = alone("float32", far, "h2o")
    tables[f"prefill with mass, fp32, {far} tokens"] = {
        "CPU s": ours["seconds"],
        "MB beyond the model": ours["extra_bytes"] / 1e6,
        "MB of one matrix of eager attention, computed": 4e-6 * HEADS * far**2,
    }
    title = f"mass prefill runs at {far}: memory beyond the model, fp32"
    goals.append(row(title, "runs", ours["extra_bytes"] / 1e9, "GB", True))
    return goals, tables


def eviction_goal(python, length, rounds, steps):
    """Return the goal of decoding after the same eviction as kvpress, step for step in turn."""
    title = f"decode after SnapKV to a quarter of {length}, against kvpress"
    peer = Peer(python, "fp32", length)
    if peer.ask("snapkv") is None:
        return [judged(title, 1.15, None, "x")], {}
    model, token = build(torch.float32, length), torch.tensor([[5]])
    # kvpress cuts once, after the prompt: so does the first; the second cuts again and again.
    policies = {
        "snapkv, one cut": create_policy(
            "snapkv", budget=length // 4, options={"stride": 2 * (rounds + 2) * steps}
        ),
        "snapkv": create_policy("snapkv", budget=length // 4),
    }
    caches, times = {}, {"kvpress": []}
    with torch.inference_mode():
        for name, policy in policies.items():
            with attach(model, policy) as attached:
                empty = attached.fill(DynamicCache(config=model.config))
                caches[name] = fill(empty, length, model.dtype)
            times[name] = []
        for number in range(rounds + 1):
            theirs = peer.ask(f"step {steps}")
            if theirs is None:
                return [judged(title, 1.15, None, "x")], {}
            found = {"kvpress": theirs["ms"]}
            for name, policy in policies.items():
                found[name] = under(model, policy, caches[name], token, steps)
            found["a token without context"] = timed(model, token, None, steps)
            for name, each in found.items():
                times.setdefault(name, []).extend([statistics.mean(each)] if number else [])
    peer.end()
    middle = {name: statistics.median(each) for name, each in times.items()}
    ratio = middle["kvpress"] / middle["snapkv, one cut"]
    return [judged(title, 1.15, ratio, "x")], {f"decode ms, fp32, {length // 4} kept": middle}


UNMEASURED = {
    "decode": [
        ("dense decode at 16384, fp32, against DynamicCache", 2.5, "x"),
        ("dense decode at 16384, bf16, against DynamicCache", 1.5, "x"),
        ("bf16 at 16384, 1024 kept, against our dense cache", 1.9, "x"),
        ("stretch: part of the physical limit", 0.8, ""),
    ],
    "heads": [
        ("per-head budgets at 4k: keys and values, of dense", 0.45, ""),
        ("per-head budgets at 4k: decode against dense", 1.0, "x"),
    ],
    "prefill": [
        ("mass prefill at 4096, fp32, against kvpress Observed", 2.8, "x"),
        ("mass prefill at 4096: memory beyond the model, of kvpress Observed's", 0.25, ""),
        ("mass prefill at 4096, bf16, against kvpress Observed", 4.0, "x"),
        ("mass prefill runs at 16384", "runs", "GB"),
    ],
    "evict": [("decode after SnapKV to a quarter of 4096, against kvpress", 1.15, "x")],
}


def unmeasured(part):
    """Return the rows of a part that is left out."""
    return [row(name, goal, None, unit, None) for name, goal, unit in UNMEASURED[part]]


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one document on stdout")
    parser.add_argument("--quick", action="store_true", help="within a minute; leaves goals out")
    parser.add_argument("--only", nargs="+", choices=UNMEASURED, help="parts to measure")
    parser.add_argument("--peer", type=Path, default=PEER, help="python of the peer's environment")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    goals, tables = [], {}
    parts = {
        "decode": lambda: speed_goals(16384, 3),
        "heads": lambda: head_goals(4),
        "prefill": lambda: mass_goals(arguments.peer, 4096, 16384),
        "evict": lambda: eviction_goal(arguments.peer, 4096, 6, 16),
    }
    for name, measure in parts.items():
        is_asked = not arguments.quick and name in (arguments.only or parts)
        found, table = measure() if is_asked else (unmeasured(name), {})
        goals += found
        tables |= table
    goals.append(padding_goal(16))
    goals.append(speculation_goal(100))
    from jeton.testing.kv_reach import REACH, is_reached

    reached = sum(is_reached(name) for name in REACH)
    title = f"model families reached or cleanly refused ({reached} reached)"
    goals.append(row(title, 30, len(REACH), "families", len(REACH) >= 30))
    goals.append(row("the same tables on a GPU at 32k and 128k", "tables", None, "", None))
    if arguments.json:
        print(json.dumps({"schema_version": 1, "goals": goals, "tables": tables}, indent=2))
        return
    for name, table in tables.items():
        print(name, {key: round(value, 2) for key, value in table.items()})
    for goal in goals:
        print(f"{goal['name']}: {goal['measured']} {goal['unit']}, goal {goal['goal']}")


if __name__ == "__main__":
    main()
