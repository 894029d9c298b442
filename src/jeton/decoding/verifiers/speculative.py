"""Speculative sampling: accept a drafted token with probability min(1, target / draft).

Source: Leviathan et al. 2023, https://arxiv.org/abs/2211.17192, Algorithm 1.
Differs from the source: a token that was not drawn at random counts as drawn from a single point;
of a tree only the first child of each node is judged.
Cost: one softmax per accepted token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from jeton.decoding.chance import VERIFY_STREAM, Chance, SeededChance
from jeton.decoding.contract import INDEPENDENT, Law, Selection, TreeLogits
from jeton.decoding.rounds import judge_in_rounds, walk
from jeton.lm.tree import TokenTree


@dataclass(frozen=True, slots=True)
class Speculative:
    """Options of the verifier.

    Attributes:
        seed: Of the decisions.
        chance: The source of decisions; None makes one from the seed.
    """

    seed: int = 0
    chance: Chance | None = None

    is_lossless: ClassVar[bool] = True
    is_sampler: ClassVar[bool | None] = True
    draws: ClassVar[str] = INDEPENDENT
    needs_fixed_draws: ClassVar[bool] = False
    needs_hidden: ClassVar[bool] = False

    def select(self, tree: TokenTree, logits: TreeLogits, position: int) -> Selection:
        """Return the accepted part of the first path, and a token drawn after it."""
        chance = self.chance or SeededChance(self.seed, VERIFY_STREAM)
        return walk(tree, logits, position, chance, _judge)


def _judge(
    target: Tensor, law: Law | None, tokens: Sequence[int], chance: Chance
) -> tuple[int | None, Tensor]:
    """Judge the first token only."""
    return judge_in_rounds(target, law, tokens[:1], chance, distinct=False)
