"""Greedy verification: keep the path that the argmax follows.

Source: the deterministic case of Leviathan et al. 2023, https://arxiv.org/abs/2211.17192
Differs from the source: trees; ties of the argmax take the lowest id.
Cost: one argmax per node.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from jeton.decoding.contract import Selection
from jeton.decoding.walk import follow
from jeton.lm.tree import TokenTree


@dataclass(frozen=True, slots=True)
class Greedy:
    """The output equals plain greedy decoding."""

    is_lossless: ClassVar[bool] = True

    def select(self, tree: TokenTree, logits: Tensor, position: int) -> Selection:
        """Return the longest path of argmax tokens, and the argmax after it."""
        best = logits.argmax(-1).tolist()
        return follow(tree, best)
