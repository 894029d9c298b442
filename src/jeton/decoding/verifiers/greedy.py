"""Greedy verification: keep the path that the argmax follows.

Source: the deterministic case of Leviathan et al. 2023, https://arxiv.org/abs/2211.17192
Differs from the source: trees; ties of the argmax take the lowest id.
Cost: one argmax per node.
"""

from dataclasses import dataclass
from typing import ClassVar

from jeton.decoding.contract import COUPLED, Selection, TreeLogits
from jeton.decoding.walk import follow
from jeton.lm.tree import TokenTree


@dataclass(frozen=True, slots=True)
class Greedy:
    """The output equals plain greedy decoding."""

    is_lossless: ClassVar[bool] = True
    is_sampler: ClassVar[bool | None] = False
    draws: ClassVar[str] = COUPLED
    needs_fixed_draws: ClassVar[bool] = False
    needs_hidden: ClassVar[bool] = False

    def select(self, tree: TokenTree, logits: TreeLogits, position: int) -> Selection:
        """Return the longest path of argmax tokens, and the argmax after it."""
        if logits.is_filtered:
            return follow(tree, lambda node: int(logits[node].argmax()))
        return follow(tree, logits.raw.argmax(-1).tolist().__getitem__)
