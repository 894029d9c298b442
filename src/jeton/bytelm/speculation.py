"""Speculation across vocabularies: a draft model proposes bytes, the target verifies them.

Source: Leviathan et al. 2023, https://arxiv.org/abs/2211.17192, algorithm 1, over bytes instead of
tokens, so that the two models need not share a vocabulary (Phan et al. 2024,
https://arxiv.org/abs/2410.09303, gives both laws).
Differs from the source: the alphabet is 256 bytes and end-of-text.
Cost: per round as many small forwards of the draft model as bytes, one tree forward of the target.

The law of the bytes is that of the target, whatever the draft model says: a drafted symbol c is
kept with probability min(1, target(c) / draft(c)), else one is drawn from the part of the target
that lies above the draft.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from jeton.bytelm.byte_lm import ByteLM
from jeton.bytelm.contract import END, FloatArray
from jeton.bytelm.prompt import Prompt
from jeton.errors import ConfigError


class Draws(Protocol):
    """Where random numbers come from: a generator of numpy, or an enumeration in a proof."""

    def symbol(self, p: FloatArray) -> int:
        """Draw an index in proportion to p."""
        ...

    def accepts(self, probability: float) -> bool:
        """Return True with this probability."""
        ...


class RandomDraws:
    """Draws from a seeded generator."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def symbol(self, p: FloatArray) -> int:
        """Draw an index in proportion to p."""
        return int(self._rng.choice(len(p), p=p / p.sum()))

    def accepts(self, probability: float) -> bool:
        """Return True with this probability."""
        return bool(self._rng.random() < probability)


def accept(
    drafted: list[int], drafts: list[FloatArray], targets: list[FloatArray], draws: Draws
) -> list[int]:
    """Return the symbols that are kept, and one more.

    Args:
        drafted: Symbols drawn from `drafts`, one after the other.
        drafts: Probabilities that each was drawn from, shape (symbols,).
        targets: Those of the target at the same places and behind the last one.
        draws: Randomness that drew none of `drafted`.
    Returns:
        1 to len(drafted) + 1 symbols, of which each has the law of the target.
    """
    kept: list[int] = []
    for symbol, draft, target in zip(drafted, drafts, targets, strict=False):
        if draws.accepts(min(1.0, float(target[symbol]) / float(draft[symbol]))):
            kept.append(symbol)
            if symbol == END:
                return kept
            continue
        rest = np.maximum(target - draft, 0.0)
        return [*kept, draws.symbol(rest if rest.sum() > 0.0 else target)]
    return [*kept, draws.symbol(targets[len(drafted)])]


@dataclass(frozen=True)
class SpeculationResult:
    """Bytes and what they took.

    Attributes:
        data: The new bytes.
        num_rounds: Forwards of the target.
        num_drafted: Symbols that were proposed.
        num_accepted: Symbols of these that were kept.
    """

    data: bytes
    num_rounds: int
    num_drafted: int
    num_accepted: int

    @property
    def acceptance_rate(self) -> float:
        """Kept by proposed."""
        return self.num_accepted / max(1, self.num_drafted)


def speculate(
    target: ByteLM,
    draft: ByteLM,
    prompt: Prompt,
    *,
    max_bytes: int = 256,
    num_draft_bytes: int = 8,
    seed: int = 0,
) -> SpeculationResult:
    """Continue a prompt with the law of the target.

    Args:
        target: The model whose law counts.
        draft: A cheaper model of any vocabulary.
        prompt: As for `ByteLM.state`.
        max_bytes: Upper bound on the new bytes.
        num_draft_bytes: Proposed per round.
        seed: Of the sampling.
    Raises:
        ConfigError: a bound below 1.
    """
    if max_bytes < 1 or num_draft_bytes < 1:
        raise ConfigError(
            f"max_bytes and num_draft_bytes must be 1 or more, got {max_bytes}, {num_draft_bytes}"
        )
    draws, found = RandomDraws(seed), bytearray()
    rounds = drafted_in_all = accepted_in_all = 0
    for drafted, kept in _rounds(target, draft, prompt, num_draft_bytes, draws):
        rounds += 1
        drafted_in_all += len(drafted)
        accepted_in_all += sum(a == b for a, b in zip(drafted, kept[:-1] or kept, strict=False))
        found += bytes(symbol for symbol in kept if symbol != END)
        if END in kept or len(found) >= max_bytes:
            break
    return SpeculationResult(bytes(found[:max_bytes]), rounds, drafted_in_all, accepted_in_all)


def _rounds(
    target: ByteLM, draft: ByteLM, prompt: Prompt, size: int, draws: Draws
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield what each round drafts and keeps."""
    own, other = target.state(prompt), draft.state(prompt)
    while True:
        drafted: list[int] = []
        drafts: list[FloatArray] = []
        state = other
        while len(drafted) < size and END not in drafted:
            p = np.exp(state.next_logprobs())
            if not p.sum() > 0.0:
                break
            symbol = draws.symbol(p)
            drafted.append(symbol)
            drafts.append(p)
            if symbol != END:
                state = state.advance(symbol)
        data = bytes(symbol for symbol in drafted if symbol != END)
        states = [own, *own.follow(data)]
        targets = [np.exp(one.next_logprobs()) for one in states]
        kept = accept(drafted, drafts, targets, draws)
        yield drafted, kept
        new = bytes(symbol for symbol in kept if symbol != END)
        pairs = enumerate(zip(new, data, strict=False))
        shared = next((i for i, (a, b) in pairs if a != b), min(len(new), len(data)))
        own = states[shared].advance(new[shared:])
        other = other.advance(new)
