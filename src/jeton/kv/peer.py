"""kvpress beside our policies: the same model, contexts and questions, in its own environment."""

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from jeton.errors import ConfigError
from jeton.kv import tasks
from jeton.kv.attached import attach
from jeton.kv.harness import CHAINS, Factory, chain_model, dense_bytes, draw_contexts
from jeton.kv.peer_script import PRESSES

_STEPS = 48
_HINT = (
    "python -m venv E && E/bin/pip install 'transformers<5.3' kvpress==0.5.5; --peer E/bin/python"
)


@dataclass(frozen=True, slots=True)
class PeerAnswers:
    """How kvpress answers under the policy of the same name, and both times of a step.

    Attributes:
        policy: Our name of it.
        keep: Part of the context that is kept.
        each_key: Accuracy of kvpress when every key is asked for once.
        accuracy: Of kvpress, by family of questions.
        memory: Bytes of keys and values that kvpress holds, of those of the dense cache.
        ms_per_step: Median CPU time of a step of kvpress on one text.
        own_ms_per_step: The same of ours.
    """

    policy: str
    keep: float
    each_key: float
    accuracy: dict[str, float]
    memory: float
    ms_per_step: float
    own_ms_per_step: float

    @property
    def mean(self) -> float:
        """Mean accuracy over the families."""
        return sum(self.accuracy.values()) / len(self.accuracy)


def check_peer(python: Path) -> None:
    """Refuse an interpreter without kvpress, before any work.

    Raises:
        ConfigError: it cannot be run, or lacks kvpress.
    """
    try:
        done = subprocess.run(
            [python, "-c", "import kvpress"], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ConfigError(f"--peer {python} cannot be run: {error}", hint=_HINT) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError(f"--peer {python} has no working kvpress: {last}", hint=_HINT)


def run_peer(
    python: Path,
    policies: Mapping[str, Factory],
    *,
    keeps: Sequence[float],
    length: int,
    num_contexts: int,
    seed: int = 0,
) -> list[PeerAnswers]:
    """Ask kvpress the questions of `run_chains` under every policy that it has too.

    Args:
        python: Interpreter of an environment with kvpress.
        policies: Ours, by name; those that kvpress lacks are left out.
        keeps: Parts of the context that are kept.
        length: Tokens of a context.
        num_contexts: Contexts asked about.
        seed: Of contexts and questions.
    Raises:
        ConfigError: kvpress fails.
    """
    names = [name for name in policies if name in PRESSES]
    if not names:
        return []
    contexts = draw_contexts(num_contexts, length, seed)
    job = {
        "model": str(CHAINS),
        "policies": names,
        "keeps": list(keeps),
        "contexts": [context.token_ids.tolist() for context in contexts],
        "questions": {
            family: _questions(contexts, family, seed)
            for family in (tasks.EACH_KEY, *tasks.FAMILIES)
        },
        "next": [tasks.next_token(token) for token in range(tasks.VOCAB_SIZE)],
    }
    script = Path(__file__).resolve().parent / "peer_script.py"
    done = subprocess.run(
        [python, "-P", script],  # -P: the names of our modules do not hide those of Python
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ConfigError(f"kvpress failed: {done.stderr.strip()[-500:]}", hint=_HINT)
    model = chain_model()
    whole = dense_bytes(model, length) * num_contexts
    rows = []
    for row in json.loads(done.stdout.splitlines()[-1])["rows"]:
        policy = policies[row["policy"]](int(row["keep"] * length), contexts[:1])
        with attach(model, policy):
            own = step_ms(model, contexts[0])
        each_key = row["accuracy"].pop(tasks.EACH_KEY)
        figures = (row["accuracy"], row["bytes"] / whole, row["ms_per_step"], own)
        rows.append(PeerAnswers(row["policy"], row["keep"], each_key, *figures))
    return rows


def _questions(contexts: Sequence[tasks.Context], family: str, seed: int) -> list[Any]:
    """Return the questions that `ask` draws, as plain values."""
    return [
        [
            {"first": int(each.first), "expected": [int(token) for token in each.expected]}
            for each in tasks.draw_questions(np.random.default_rng([seed, i]), context, family)
        ]
        for i, context in enumerate(contexts)
    ]


@torch.inference_mode()
def step_ms(model: PreTrainedModel, context: tasks.Context) -> float:
    """Return the median CPU time of a step after a context, under what is attached, in ms."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cache: Any = model(
        input_ids=torch.from_numpy(context.token_ids)[None], use_cache=True, logits_to_keep=1
    ).past_key_values
    times = []
    for _ in range(_STEPS):
        started = time.thread_time()
        model(input_ids=torch.tensor([[tasks.FIRST_KEY]]), past_key_values=cache)
        times.append(1e3 * (time.thread_time() - started))
    torch.set_num_threads(threads)
    return float(np.median(times))
