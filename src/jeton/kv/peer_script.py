"""Ask kvpress what `jeton bench kv` asks: run by path in an environment of its own.

    PYTHON peer_script.py < job.json > result.json

Imports nothing of jeton, whose transformers is another one. The job holds the folder of the model,
contexts, questions by family and parts kept; the result one row for each press and part.
"""

import json
import sys
import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache

PRESSES = {
    "snapkv": "SnapKVPress",
    "tova": "TOVAPress",
    "knorm": "KnormPress",
    "keydiff": "KeyDiffPress",
    "streaming": "StreamingLLMPress",
    "h2o": "ObservedAttentionPress",
    "adakv": "AdaKVPress",
    "random": "RandomPress",
}


def make_press(name: str, ratio: float) -> Any:
    """Return the press of a policy's name that drops a part of the context."""
    import kvpress

    if name == "adakv":
        return kvpress.AdaKVPress(kvpress.SnapKVPress(compression_ratio=ratio))
    options = {"seed": 0} if name == "random" else {}
    return getattr(kvpress, PRESSES[name])(compression_ratio=ratio, **options)


@torch.inference_mode()
def ask(model: Any, press: Any, job: dict[str, Any], family: str) -> dict[str, Any]:
    """Return right answers, bytes and ms of steps over all contexts of one family.

    Contexts go one by one: a press evicts the same rows for all heads of all texts otherwise.
    """
    right = asked = num_bytes = 0
    times = []
    for ids, questions in zip(job["contexts"], job["questions"][family], strict=True):
        cache = DynamicCache()
        with press(model):
            model(
                input_ids=torch.tensor([ids]),
                past_key_values=cache,
                output_attentions=model.config._attn_implementation == "eager",
                logits_to_keep=1,
            )
        for layer in cache.layers:
            rows: Any = layer
            num_bytes += rows.keys.nbytes + rows.values.nbytes
        place = len(ids)
        for question in questions:
            fed, good = question["first"], True
            for wanted in question["expected"]:
                started = time.thread_time()
                logits = model(
                    input_ids=torch.tensor([[fed]]),
                    past_key_values=cache,
                    position_ids=torch.tensor([[place]]),
                    cache_position=torch.tensor([place]),
                ).logits
                times.append(1e3 * (time.thread_time() - started))
                place += 1
                given = int(logits[0, -1].argmax())
                good = good and given == wanted
                fed = job["next"][given]
            right += good
            asked += 1
    return {"accuracy": right / asked, "bytes": num_bytes, "times": times}


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Return the rows of all presses, and which names kvpress lacks."""
    import kvpress  # noqa: F401  # a missing package is told by name, before any work

    torch.set_num_threads(1)
    rows = []
    for name in job["policies"]:
        attention = "eager" if name == "h2o" else "sdpa"
        model = AutoModelForCausalLM.from_pretrained(
            job["model"], dtype=torch.float32, attn_implementation=attention
        ).eval()
        for keep in job["keeps"]:
            press = make_press(name, 1.0 - keep)
            found = {family: ask(model, press, job, family) for family in job["questions"]}
            times = sorted(t for part in found.values() for t in part["times"])
            rows.append(
                {
                    "policy": name,
                    "keep": keep,
                    "accuracy": {family: part["accuracy"] for family, part in found.items()},
                    "bytes": max(part["bytes"] for part in found.values()),
                    "ms_per_step": times[len(times) // 2],
                }
            )
    return {"rows": rows}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(json.load(sys.stdin))))
