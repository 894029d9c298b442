"""Bytes per second of source and destination, plain and speculative, interleaved in one run."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from jeton.decoding.contract import Drafter
from jeton.decoding.prompt import prompt_ids
from jeton.decoding.registry import DRAFTERS
from jeton.decoding.replay import ReplayFigures, replay
from jeton.lm.load import LanguageModel
from jeton.lm.pack import packed

PROMPT_BYTES = 1536  # with what follows, within a context of 1,024 tokens
DECODED_BYTES = 1024
DRAFT_LENGTHS = (3, 6, 10)


@dataclass(frozen=True, slots=True)
class Speed:
    """Speed of one model.

    Attributes:
        bytes_per_second: Plain decoding.
        speculative_bytes_per_second: With the drafter.
        tokens_per_step: With the drafter.
        acceptance_rate: Accepted over proposed tokens.
        num_draft_tokens: Draft length that was fastest on learning text.
    """

    bytes_per_second: float
    speculative_bytes_per_second: float
    tokens_per_step: float
    acceptance_rate: float
    num_draft_tokens: int


def excerpts(texts: Sequence[str], count: int) -> list[tuple[str, str]]:
    """Return up to `count` (prompt, continuation) pairs from the middle of the first texts that
    are long enough, or of the longest ones where none is.
    """
    wanted = PROMPT_BYTES + DECODED_BYTES
    long_enough = [text for text in texts if len(text) >= wanted]
    if len(long_enough) < count:
        long_enough = sorted((t for t in texts if len(t) >= 64), key=len, reverse=True)
    pairs = []
    for text in long_enough[:count]:
        middle = max(0, (len(text) - wanted) // 2)
        piece = text[middle : middle + wanted]
        cut = min(PROMPT_BYTES, len(piece) // 2)
        pairs.append((piece[:cut], piece[cut:]))
    return pairs


def compare_speed(
    models: Sequence[LanguageModel],
    tuning: Sequence[tuple[str, str]],
    held_out: Sequence[tuple[str, str]],
    drafter: str,
    rounds: int = 2,
) -> list[Speed]:
    """Decode the same held-out text with every model, plain and speculative, round by round.

    Args:
        models: Source and destination.
        tuning: (prompt, continuation) pairs that choose each model's draft length.
        held_out: Pairs that are timed.
        drafter: Name of the drafter.
        rounds: Times that everything is repeated; medians are returned.
    """
    speeds = []
    with contextlib.ExitStack() as stack:
        for lm in models:
            stack.enter_context(packed(lm.model))
        lengths = [_best_length(lm, tuning, drafter) for lm in models]
        plain: list[list[float]] = [[] for _ in models]
        drafted: list[list[float]] = [[] for _ in models]
        last: list[ReplayFigures | None] = [None for _ in models]
        for _ in range(rounds):
            for index, lm in enumerate(models):
                plain[index].append(_run(lm, held_out, None, 0).bytes_per_second)
                figures = _run(lm, held_out, DRAFTERS.create(drafter), lengths[index])
                drafted[index].append(figures.bytes_per_second)
                last[index] = figures
    for index, length in enumerate(lengths):
        figures_of = last[index]
        assert figures_of is not None
        speeds.append(
            Speed(
                bytes_per_second=median(plain[index]),
                speculative_bytes_per_second=median(drafted[index]),
                tokens_per_step=figures_of.tokens_per_step,
                acceptance_rate=figures_of.acceptance_rate,
                num_draft_tokens=length,
            )
        )
    return speeds


def _best_length(lm: LanguageModel, pairs: Sequence[tuple[str, str]], drafter: str) -> int:
    """Return the draft length that is fastest on the tuning pairs."""
    found = {n: _run(lm, pairs, DRAFTERS.create(drafter), n) for n in DRAFT_LENGTHS}
    return max(DRAFT_LENGTHS, key=lambda n: found[n].bytes_per_second)


def _run(
    lm: LanguageModel,
    pairs: Sequence[tuple[str, str]],
    drafter: Drafter | None,
    num_draft_tokens: int,
) -> ReplayFigures:
    """Replay every pair and add up the figures."""
    total = [0, 0, 0, 0.0]
    accepted = []
    for prompt, continuation in pairs:
        ids = prompt_ids(lm, prompt + continuation)
        ids = ids[: lm.max_length or len(ids)]
        num_prompt = min(len(prompt_ids(lm, prompt)), len(ids) - 2)
        figures = replay(
            lm,
            ids,
            num_prompt_tokens=num_prompt,
            drafter=drafter,
            num_draft_tokens=num_draft_tokens,
        )
        total[0] += figures.num_bytes
        total[1] += figures.num_tokens
        total[2] += figures.num_steps
        total[3] += figures.seconds
        accepted.append(figures.acceptance_rate)
    return ReplayFigures(
        num_bytes=int(total[0]),
        num_tokens=int(total[1]),
        num_steps=int(total[2]),
        seconds=total[3],
        tokens_per_step=total[1] / max(1, total[2]),
        acceptance_rate=sum(accepted) / max(1, len(accepted)),
    )
