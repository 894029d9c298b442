"""Recursive rejection sampling: several distinct drafted tokens per node, one after the other.

Source: Jeon et al. 2024 (Recursive Speculative Decoding), https://arxiv.org/abs/2402.14160,
Algorithm 2; draws without replacement.
Differs from the source: a token that was not drawn at random counts as drawn from a single point.
Cost: one softmax per accepted token, one residual per rejected one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from jeton.decoding.chance import VERIFY_STREAM, Chance, SeededChance
from jeton.decoding.contract import DISTINCT, Law, Selection, TreeLogits
from jeton.decoding.rounds import judge_in_rounds, walk
from jeton.lm.tree import TokenTree


@dataclass(frozen=True, slots=True)
class RSD:
    """Options of the verifier.

    Attributes:
        seed: Of the decisions.
        chance: The source of decisions; None makes one from the seed.
    """

    seed: int = 0
    chance: Chance | None = None

    is_lossless: ClassVar[bool] = True
    is_sampler: ClassVar[bool | None] = True
    draws: ClassVar[str] = DISTINCT
    needs_fixed_draws: ClassVar[bool] = False
    needs_hidden: ClassVar[bool] = False

    def select(self, tree: TokenTree, logits: TreeLogits, position: int) -> Selection:
        """Return the accepted path, and a token drawn after it."""
        chance = self.chance or SeededChance(self.seed, VERIFY_STREAM)
        return walk(tree, logits, position, chance, _judge)


def _judge(
    target: Tensor, law: Law | None, tokens: Sequence[int], chance: Chance
) -> tuple[int | None, Tensor]:
    """Judge all tokens; a later one was drawn from what the earlier ones left of the law."""
    return judge_in_rounds(target, law, tokens, chance, distinct=True)
