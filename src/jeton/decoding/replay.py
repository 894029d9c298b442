"""Measure decoding on recorded text: the output is forced, so that speed is that of real text.

Small models loop when they run freely, and loops make every drafter look good. Here the text is a
recorded one; the model still runs every forward, a draft holds exactly where it equals the record.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from jeton.decoding.contract import COUPLED, Drafter, Sampling, Selection, TreeLogits
from jeton.decoding.engine import DecodingLoop
from jeton.decoding.walk import follow
from jeton.errors import ConfigError
from jeton.lm.cost import CostTable
from jeton.lm.load import LanguageModel
from jeton.lm.runner import Runner
from jeton.lm.tree import TokenTree


@dataclass(frozen=True, slots=True)
class Recorded:
    """A verifier that accepts what equals a recorded text, position by position."""

    token_ids: Sequence[int]

    is_lossless: ClassVar[bool] = False
    is_sampler: ClassVar[bool | None] = None
    draws: ClassVar[str] = COUPLED
    needs_fixed_draws: ClassVar[bool] = False
    needs_hidden: ClassVar[bool] = False

    def select(self, tree: TokenTree, logits: TreeLogits, position: int) -> Selection:
        """Return the path that the record takes."""
        last = len(self.token_ids) - 1
        return follow(tree, lambda node: self.token_ids[min(position + tree.depths[node], last)])


@dataclass(frozen=True, slots=True)
class ReplayFigures:
    """Speed on recorded text; prefill is not counted."""

    num_bytes: int
    num_tokens: int
    num_steps: int
    seconds: float
    tokens_per_step: float
    acceptance_rate: float

    @property
    def bytes_per_second(self) -> float:
        """Bytes of text per second of decoding."""
        return self.num_bytes / self.seconds if self.seconds else 0.0


def replay(
    lm: LanguageModel,
    token_ids: Sequence[int],
    *,
    num_prompt_tokens: int,
    drafter: Drafter | None = None,
    num_draft_tokens: int = 8,
    runner: Runner | None = None,
    draft_model: LanguageModel | None = None,
    cost: CostTable | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> ReplayFigures:
    """Decode a recorded text after its first `num_prompt_tokens` tokens and time it.

    Raises:
        ConfigError: nothing is left to decode after the prompt.
    """
    ids = list(token_ids)
    if not 1 <= num_prompt_tokens < len(ids):
        raise ConfigError(
            f"a recording of {len(ids)} tokens has no room for a prompt of {num_prompt_tokens}"
        )
    loop = DecodingLoop(
        lm,
        drafter=drafter,
        verifier=Recorded(ids),
        sampling=Sampling(),
        num_draft_tokens=num_draft_tokens,
        runner=runner,
        draft_model=draft_model,
        cost=cost,
    )
    steps = loop.run(ids[:num_prompt_tokens], len(ids) - num_prompt_tokens)
    decoded = list(next(steps))  # the prefill's token
    started = clock()
    for new in steps:
        decoded.extend(new)
    seconds = clock() - started
    assert decoded == ids[num_prompt_tokens : num_prompt_tokens + len(decoded)]
    stats = loop.stats
    return ReplayFigures(
        num_bytes=len(lm.vocabulary.bytes_of(decoded[1:])),
        num_tokens=len(decoded) - 1,
        num_steps=stats.num_steps - 1,
        seconds=seconds,
        tokens_per_step=(len(decoded) - 1) / max(1, stats.num_steps - 1),
        acceptance_rate=stats.acceptance_rate,
    )
