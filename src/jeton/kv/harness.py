"""What policies cost in answers and bits: key-value chains and real text, against the dense cache.

The chains are asked of a tiny model that knows nothing else (`recipes/kv`), the text of any model.
A prompt is read, the policy cuts or selects, and only then come the questions: what it dropped
before it knew them is gone.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from jeton.core.progress import NO_PROGRESS, Progress
from jeton.errors import ConfigError
from jeton.kv import tasks
from jeton.kv.attached import attach
from jeton.kv.contract import EVICT, CachePolicy
from jeton.lm.load import quiet_transformers

if TYPE_CHECKING:
    from jeton.kv.peer import PeerAnswers

CHAINS = Path(__file__).resolve().parent / "chains"
NUM_CHAINS = 6
LONGEST = 512  # of the model's training
APART = 2  # the model gathers a pair in the two tokens after it, which say little if they are pairs
Factory = Callable[[int, Sequence[tasks.Context]], CachePolicy]
"""Makes a policy from a budget and, for oracles, the contexts it will see."""


@dataclass(frozen=True, slots=True)
class Answers:
    """How a policy answers at one budget.

    Attributes:
        policy: Its name.
        keep: Part of the context that it keeps or attends to.
        each_key: Accuracy when every key is asked for once.
        accuracy: By family of questions.
        memory: Bytes of keys and values, of those of the dense cache.
        full_steps: Part of the steps that read all keys, or None for evicting policies.
    """

    policy: str
    keep: float
    each_key: float
    accuracy: dict[str, float]
    memory: float
    full_steps: float | None

    @property
    def mean(self) -> float:
        """Mean accuracy over the families."""
        return sum(self.accuracy.values()) / len(self.accuracy)


@dataclass(frozen=True, slots=True)
class TextFigures:
    """What a policy does to real text at one budget.

    Attributes:
        policy: Its name, or "dense".
        text: Which text.
        keep: Part of the context that it keeps or attends to.
        bits_per_byte: Of the text after the prompt.
        kl_nats: Of the dense model's next-token law to this one's, mean over tokens.
        ms_per_step: Median CPU time of one decoding step.
        memory: Bytes of keys and values, of those of the dense cache.
        full_steps: Part of the steps that read all keys, or None.
        limit: The speed-up that memory traffic alone would allow.
    """

    policy: str
    text: str
    keep: float
    bits_per_byte: float
    kl_nats: float
    ms_per_step: float
    memory: float
    full_steps: float | None
    limit: float


@dataclass(frozen=True, slots=True)
class KvBench:
    """The tables of `jeton bench kv`; not complete where Ctrl-C ended it."""

    length: int
    contexts: int
    model: str
    answers: list[Answers]
    texts: list[TextFigures]
    peer: "list[PeerAnswers]" = field(default_factory=list)
    is_complete: bool = True
    schema_version: int = 1


def _never() -> bool:
    """Nobody wants to stop."""
    return False


def chain_model() -> PreTrainedModel:
    """Return the tiny model that knows key-value chains, float32 on the CPU."""
    with quiet_transformers():
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(CHAINS, dtype=torch.float32)
    model.eval()
    return model


def draw_contexts(count: int, length: int, seed: int = 0) -> list[tasks.Context]:
    """Return contexts of six chains.

    Raises:
        ConfigError: fewer than one, or a length that is too short, or that the model never saw.
    """
    if length > LONGEST:
        raise ConfigError(
            f"the model of key-value chains knows contexts of up to {LONGEST} tokens, got {length}",
            hint=f"take --length {LONGEST}",
        )
    if count < 1:
        raise ConfigError(f"the bench needs at least 1 context, got {count}", hint="take 8")
    generator = np.random.default_rng(seed)
    return [tasks.draw_context(generator, length, NUM_CHAINS, apart=APART) for _ in range(count)]


@torch.inference_mode()
def ask(
    model: PreTrainedModel,
    contexts: Sequence[tasks.Context],
    family: str,
    *,
    seed: int = 0,
    pads: Sequence[int] | None = None,
) -> float:
    """Return the part of questions of a family that are answered in full.

    Args:
        model: Of `chain_model`, with or without a policy attached.
        contexts: All of one length.
        family: Of `tasks.FAMILIES`, or `tasks.EACH_KEY`.
        seed: Of the choice of questions.
        pads: Padding before each context.
    """
    questions = [
        tasks.draw_questions(np.random.default_rng([seed, i]), context, family)
        for i, context in enumerate(contexts)
    ]
    widest = max(pads) if pads else 0
    rows = [np.pad(context.token_ids, (widest, 0)) for context in contexts]
    if pads:
        rows = [row[widest - pad :] for row, pad in zip(rows, pads, strict=True)]
        longest = max(map(len, rows))
        rows = [np.pad(row, (longest - len(row), 0)) for row in rows]
    ids = torch.from_numpy(np.stack(rows))
    mask = torch.ones_like(ids)
    for row, context in enumerate(contexts):
        mask[row, : ids.shape[1] - len(context.token_ids)] = 0
    cache = _feed(model, ids, None, mask)[1]
    right, asked = 0, 0
    for number in range(len(questions[0])):
        fed = [each[number].first for each in questions]
        good = np.ones(len(contexts), dtype=bool)
        for step in range(len(questions[0][0].expected)):
            mask = torch.cat([mask, mask.new_ones(len(fed), 1)], dim=1)
            logits, cache = _feed(model, torch.tensor(fed)[:, None], cache, mask)
            given = logits.argmax(-1).tolist()
            wanted = [each[number].expected[step] for each in questions]
            good &= np.array(given) == np.array(wanted)
            fed = [tasks.next_token(answer) for answer in given]
        right += int(good.sum())
        asked += len(good)
    return right / asked


def _feed(model: PreTrainedModel, ids: Tensor, cache: Any, mask: Tensor) -> tuple[Tensor, Any]:
    """Return the last logits and the cache after some tokens."""
    positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, -ids.shape[1] :]
    output = model(
        input_ids=ids,
        past_key_values=cache,
        attention_mask=mask,
        position_ids=positions,
        use_cache=True,
        logits_to_keep=1,
    )
    return output.logits[:, -1], output.past_key_values


def run_chains(
    policies: Mapping[str, Factory],
    *,
    keeps: Sequence[float],
    length: int = 512,
    num_contexts: int = 8,
    seed: int = 0,
    progress: Progress = NO_PROGRESS,
    stop_when: Callable[[], bool] = _never,
) -> list[Answers]:
    """Ask every policy at every budget; "dense" comes first.

    Args:
        policies: By name.
        keeps: Parts of the context that are kept or attended.
        length: Tokens of a context.
        num_contexts: Contexts asked about.
        seed: Of contexts and questions.
        progress: Shows how far it is.
        stop_when: Asked before each policy; what was measured until then is returned.
    Raises:
        ConfigError: contexts or a budget that cannot be, before any work.
    """
    contexts = draw_contexts(num_contexts, length, seed)
    made = [
        (name, keep, make(int(keep * length), contexts))
        for name, make in policies.items()
        for keep in keeps
    ]
    model = chain_model()

    def found() -> tuple[float, dict[str, float]]:
        by_family = {family: ask(model, contexts, family, seed=seed) for family in tasks.FAMILIES}
        return ask(model, contexts, tasks.EACH_KEY, seed=seed), by_family

    rows = [Answers("dense", 1.0, *found(), 1.0, None)]
    bytes_dense = dense_bytes(model, length) * num_contexts
    for name, keep, policy in progress.track(made, total=len(made), what="chains", unit="policies"):
        if stop_when():
            break
        with attach(model, policy) as attached:
            answers = found()
            memory = attached.num_bytes / bytes_dense if policy.kind == EVICT else 1.0
            rows.append(Answers(name, keep, *answers, memory, attached.full_step_fraction))
    return rows


def dense_bytes(model: PreTrainedModel, length: int) -> int:
    """Return the bytes of keys and values of one text."""
    config = model.config.get_text_config(decoder=True)
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    element = torch.empty(0, dtype=model.dtype).element_size()
    return int(2 * config.num_hidden_layers * heads * size * element * length)


def run_text(
    model: PreTrainedModel,
    texts: Mapping[str, tuple[Sequence[int], int]],
    policies: Mapping[str, Factory],
    *,
    keeps: Sequence[float],
    num_new: int = 64,
    progress: Progress = NO_PROGRESS,
    stop_when: Callable[[], bool] = _never,
) -> list[TextFigures]:
    """Decode recorded text under every policy and compare the laws with the dense model's.

    Args:
        model: Any that policies reach.
        texts: By name: ids, and the bytes of the last `num_new` of them.
        policies: By name.
        keeps: Parts of the prompt that are kept or attended.
        num_new: Tokens that are decoded; those before are the prompt.
        progress: Shows how far it is.
        stop_when: Asked before each policy; what was measured until then is returned.
    Raises:
        ConfigError: a text that is too short, or a budget that cannot be.
    """
    rows = []
    for text, (token_ids, num_bytes) in texts.items():
        ids = torch.tensor([list(token_ids)])
        prompt = ids.shape[1] - num_new
        if prompt < 64:
            raise ConfigError(f"the text {text!r} has {ids.shape[1]} tokens, too few for a bench")
        if stop_when():
            break
        laws, plain = _decode(model, ids, num_new)
        bits = _bits(laws, ids, num_new) / num_bytes
        rows.append(TextFigures("dense", text, 1.0, bits, 0.0, plain, 1.0, None, 1.0))
        for name, make in progress.track(
            policies.items(), total=len(policies), what=text, unit="policies"
        ):
            for keep in keeps:
                if stop_when():
                    return rows
                policy = make(int(keep * prompt), ())
                with attach(model, policy) as attached:
                    found, spent = _decode(model, ids, num_new)
                    kl = float((laws.exp() * (laws - found)).sum(-1).mean())
                    evicts = policy.kind == EVICT
                    memory = attached.num_bytes / dense_bytes(model, prompt) if evicts else 1.0
                    full = attached.full_step_fraction
                limit = physical_limit(model, ids.shape[1], policy, full)
                bits = _bits(found, ids, num_new) / num_bytes
                figures = (bits, kl, spent, memory, full, limit)
                rows.append(TextFigures(name, text, keep, *figures))
    return rows


@torch.inference_mode()
def _decode(model: PreTrainedModel, ids: Tensor, num_new: int) -> tuple[Tensor, float]:
    """Return the log-probabilities of each new token's law, and the median ms of a step."""
    output = model(input_ids=ids[:, :-num_new], use_cache=True, logits_to_keep=1)
    laws, times = [output.logits[0, -1]], []
    for place in range(ids.shape[1] - num_new, ids.shape[1] - 1):
        started = time.thread_time()
        output = model(input_ids=ids[:, place : place + 1], past_key_values=output.past_key_values)
        times.append(time.thread_time() - started)
        laws.append(output.logits[0, -1])
    return torch.log_softmax(torch.stack(laws).float(), dim=-1), 1e3 * float(np.median(times))


def _bits(laws: Tensor, ids: Tensor, num_new: int) -> float:
    wanted = ids[0, -num_new:, None]
    return -float(laws.gather(1, wanted).sum()) / float(np.log(2))


def physical_limit(
    model: PreTrainedModel, length: int, policy: CachePolicy, full_steps: float | None
) -> float:
    """Return the speed-up if a step cost only the bytes that it reads.

    (weights + keys and values) / (weights + those attended + those read to choose them).
    """
    weights = sum(p.nbytes for p in model.parameters())
    total = dense_bytes(model, length)
    attended = total * min(policy.budget / length, 1.0)
    page = getattr(policy, "page", 0)
    reads = total / page if page else total / 2 * (full_steps or 0.0)
    return (weights + total) / (weights + attended + reads)


def knotted(token_ids: Sequence[int], chunk: int, num_parts: int, seed: int = 0) -> list[int]:
    """Return a text cut into parts whose chunks are shuffled among each other, in order.

    The last chunk continues the first part, whose other chunks lie far behind: the haystack of
    Untie the Knots (Tian et al. 2024, https://arxiv.org/abs/2409.04774).

    Example:
        >>> tied = knotted(list(range(24)), 4, 2)
        >>> sorted(tied) == list(range(24)), tied[-4:]
        (True, [8, 9, 10, 11])
    """
    size = len(token_ids) // num_parts // chunk * chunk
    if size < 2 * chunk:
        raise ConfigError(f"{len(token_ids)} tokens are too few for {num_parts} parts")
    parts = [list(token_ids[i * size : (i + 1) * size]) for i in range(num_parts)]
    queues = [[part[i : i + chunk] for i in range(0, size, chunk)] for part in parts]
    last = queues[0].pop()
    order = np.repeat(np.arange(num_parts), [len(queue) for queue in queues])
    np.random.default_rng(seed).shuffle(order)
    tied: list[int] = []
    for part in order:
        tied += queues[part].pop(0)
    return tied + last
