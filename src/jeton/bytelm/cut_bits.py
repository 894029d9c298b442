"""What it costs to cut a prompt inside a token: bits of the next byte, three ways."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jeton.bytelm.byte_lm import ByteLM
from jeton.bytelm.contract import FloatArray
from jeton.bytelm.lexicon import Lexicon
from jeton.core.progress import NO_PROGRESS, Progress
from jeton.errors import ConfigError
from jeton.lm.load import LanguageModel
from jeton.lm.runner import Runner

_LEAST = 1e-12  # a probability of 0 is drawn as 40 bits
_FIRST = 8  # bytes before the first cut
_MOST_BYTES = 4000


@dataclass(frozen=True)
class CutBits:
    """Bits of the next byte at each cut.

    Attributes:
        cuts: Bytes of the prompt.
        naive: The prompt is tokenized, the next token begins with the byte.
        healing: The last token is taken back and must be written again.
        exact: Every token that covers the end counts.
    """

    cuts: list[int]
    naive: list[float]
    healing: list[float]
    exact: list[float]

    def ways(self) -> dict[str, list[float]]:
        """Return the bits by way."""
        return {"naive": self.naive, "healing": self.healing, "exact": self.exact}


def measure_cuts(
    lm: LanguageModel,
    data: bytes,
    *,
    num_cuts: int = 64,
    measure: str = "canonical",
    seed: int = 0,
    progress: Progress = NO_PROGRESS,
) -> CutBits:
    """Cut the beginning of a text at random bytes and ask for the next one.

    Args:
        lm: The model.
        data: At most 4,000 bytes of it are read, and what fits half of the context.
        num_cuts: Cuts, drawn without repeats.
        measure: Of the exact way.
        seed: Of the draw.
        progress: Counts cuts.
    Raises:
        ConfigError: too few bytes, or no cuts.
    """
    data = data[: min(_MOST_BYTES, Runner(lm.model).max_length // 2)]
    if num_cuts < 1 or len(data) <= _FIRST:
        raise ConfigError(f"{num_cuts} cuts of {len(data)} bytes; both must be more")
    places = range(_FIRST, len(data))
    cuts = sorted(random.Random(seed).sample(places, min(num_cuts, len(places))))
    byte_lm, tokens = ByteLM(lm, measure=measure), _Tokens(lm)
    found = CutBits(cuts, [], [], [])
    for cut in progress.track(cuts, len(cuts), "cut prompts", "cut"):
        naive, healing = tokens.bits(byte_lm.start_ids, data[:cut], data[cut])
        found.naive.append(naive)
        found.healing.append(healing)
        logprob = float(byte_lm.state(data[:cut]).next_logprobs()[data[cut]])
        found.exact.append(min(-logprob / math.log(2), -math.log2(_LEAST)))
    return found


class _Tokens:
    """What a user of the token model alone would do."""

    def __init__(self, lm: LanguageModel) -> None:
        self._lm, self._runner, self._lexicon = lm, Runner(lm.model), Lexicon(lm.vocabulary)

    def bits(self, start: list[int], prompt: bytes, byte: int) -> tuple[float, float]:
        """Return the bits of the next byte, naive and with the last token taken back."""
        ids, tokens = self._lm.vocabulary.encode(prompt), self._lm.vocabulary.tokens
        end, held = bytes([byte]), tokens[ids[-1]]
        law = self._law([*start, *ids])
        naive = self._share(law, lambda token: token[:1] == end, lambda token: True)
        before = [*start, *ids[:-1]]
        if not before:
            return -math.log2(max(naive, _LEAST)), -math.log2(max(naive, _LEAST))

        def fits(token: bytes) -> bool:
            return token.startswith(held)

        law = self._law(before)
        longer = self._share(law, lambda token: token.startswith(held + end), fits)
        same = self._share(law, lambda token: token == held, fits)
        healing = longer + same * naive
        return -math.log2(max(naive, _LEAST)), -math.log2(max(healing, _LEAST))

    def _law(self, ids: list[int]) -> FloatArray:
        """Return the probabilities of the next token."""
        self._runner.reset()
        p: FloatArray = self._runner.prefill(ids).double().softmax(-1).cpu().numpy()
        return p

    def _share(
        self, p: FloatArray, wanted: Callable[[bytes], bool], given: Callable[[bytes], bool]
    ) -> float:
        """Return P(next token is wanted | it is given)."""
        tokens = self._lm.vocabulary.tokens
        known = [i for i in self._lexicon.ids.tolist() if given(tokens[i])]
        base = float(np.sum(p[known]))
        return float(np.sum(p[[i for i in known if wanted(tokens[i])]])) / base if base else 0.0
